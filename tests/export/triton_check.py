"""Looks at a model of a Triton model repository as Triton would: triton_check.py FOLDER/NAME VERSION

config.pbtxt is parsed with Triton's own schema and compared with what ONNX Runtime finds in the
model; the model answers its golden rows as it lies there (reference.py).
"""
import pathlib
import runpy
import sys

import onnxruntime
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

TYPES = {"tensor(float)": "TYPE_FP32", "tensor(double)": "TYPE_FP64", "tensor(int32)": "TYPE_INT32",
         "tensor(int64)": "TYPE_INT64", "tensor(uint8)": "TYPE_UINT8"}


def check_tensors(declared, found):
    assert [t.name for t in declared] == [t.name for t in found], (declared, [t.name for t in found])
    for ours, theirs in zip(declared, found):
        assert model_config_pb2.DataType.Name(ours.data_type) == TYPES[theirs.type], ours
        assert len(ours.dims) > 0 and all(d == -1 or d > 0 for d in ours.dims), ours
        shape = ours.reshape.shape if ours.HasField("reshape") else ours.dims
        model = [d if isinstance(d, int) else -1 for d in theirs.shape]
        assert model[0] == -1, f"{theirs.name}: rows are not dynamic: {theirs.shape}"
        assert list(shape) == model[1:], (ours, theirs.shape)


def main(folder, version):
    folder = pathlib.Path(folder)
    config = text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    assert config.name == folder.name and config.backend == "onnxruntime", config
    assert config.platform == "onnxruntime_onnx" and config.max_batch_size > 1, config
    assert config.HasField("dynamic_batching")
    session = onnxruntime.InferenceSession(str(folder / version / "model.onnx"),
                                           providers=["CPUExecutionProvider"])
    check_tensors(config.input, session.get_inputs())
    check_tensors(config.output, session.get_outputs())
    for output in config.output:
        wants = output.name == "probabilities"
        assert bool(output.label_filename) == wants, output
        if wants:
            labels = (folder / output.label_filename).read_text().splitlines()
            assert len(labels) == output.dims[-1], (len(labels), output)
    reference = runpy.run_path(str(pathlib.Path(__file__).with_name("reference.py")))
    return reference["main"](str(folder / version))


sys.exit(main(*sys.argv[1:]))
