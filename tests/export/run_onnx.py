"""Runs exported models by ONNX Runtime and compares with the answers of the reference device.

  run_onnx.py ROWS.safetensors MODEL.onnx ...
  run_onnx.py ROWS.safetensors --towers USER.onnx ITEM.onnx SCORER.onnx
  run_onnx.py ROWS.safetensors --alike MODEL.onnx OTHER.onnx   the second also answers as the first, bit for bit

All rows at once, with more steps than any row has, and each row alone with no more steps than it
has; behind a row's length stand values that must not be looked at. Exit 1 with what differs; 77
where ONNX Runtime is not installed.
"""
import json
import struct
import sys

try:
    import numpy as np
    import onnxruntime
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

TYPES = {"F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8", "U8": "u1"}
ONNX_TYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(int32)": "int32",
              "tensor(int64)": "int64", "tensor(uint8)": "uint8"}


def read_tensors(path):
    with open(path, "rb") as file:
        raw = file.read()
    (size,) = struct.unpack("<Q", raw[:8])
    data = raw[8 + size :]
    tensors = {}
    for name, entry in json.loads(raw[8 : 8 + size]).items():
        begin, end = entry["data_offsets"]
        values = np.frombuffer(data[begin:end], np.dtype(TYPES[entry["dtype"]]))
        tensors[name] = values.reshape(entry["shape"])
    return tensors


def session_of(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def with_steps(values, lengths, steps):
    """The rows with this many steps; values that are wrong behind each row's length."""
    wrong = np.nan if values.dtype.kind == "f" else np.iinfo(values.dtype).max
    made = np.full((len(values), steps) + values.shape[2:], wrong, values.dtype)
    for row, length in enumerate(lengths):
        made[row, :length] = values[row, :length]
    return made


def feeds(tensors, names, rows, more):
    """The inputs of these rows; sequences of `more` steps than the longest row, at least one."""
    made = {}
    for name in names:
        if name.endswith("_lengths"):
            made[name] = tensors[name][rows]
        elif name + "_lengths" in tensors:
            lengths = tensors[name + "_lengths"][rows]
            made[name] = with_steps(tensors[name][rows], lengths, max(lengths.max() + more, 1))
        else:
            made[name] = tensors[name][rows]
    return made


def check_types(session, tensors):
    for end in session.get_inputs():
        expected = tensors[end.name].dtype.name if end.name in tensors else "float32"
        assert ONNX_TYPES[end.type] == expected, (end.name, end.type)
    for end in session.get_inputs() + session.get_outputs():
        assert end.shape[0] == "N", (end.name, end.shape)


def compare(outputs, tensors, rows, what):
    for name, got in outputs.items():
        expected = tensors["answer/" + name][rows]
        assert got.shape == expected.shape, (what, name, got.shape, expected.shape)
        assert np.isfinite(got).all(), (what, name, got)
        largest = np.abs(tensors["answer/" + name]).max()
        allowed = 1e-5 if name.startswith("probabilit") else 1e-4 * largest
        off = np.abs(got - expected).max()
        if not off <= allowed:
            raise AssertionError(f"{what}: {name} is off by {off:.3g} of {allowed:.3g}:\n{got}\n"
                                 f"expected\n{expected}")


def cases(count):
    everything = np.arange(count)
    yield "all rows", everything, 0
    yield "more steps", everything, 3
    yield "five rows", everything[:5], 1
    for row in range(count):
        yield f"row {row} alone", everything[row : row + 1], 0
        yield f"row {row} alone, more steps", everything[row : row + 1], 5


def run(session, given):
    names = [end.name for end in session.get_outputs()]
    return dict(zip(names, session.run(names, given)))


def check_model(path, tensors, count):
    session = session_of(path)
    check_types(session, tensors)
    names = [end.name for end in session.get_inputs()]
    answers = {name[len("answer/") :] for name in tensors if name.startswith("answer/")}
    assert answers == {end.name for end in session.get_outputs()}, answers
    for what, rows, more in cases(count):
        compare(run(session, feeds(tensors, names, rows, more)), tensors, rows, f"{path}: {what}")


def check_towers(paths, tensors, count):
    user, item, scorer = (session_of(path) for path in paths)
    for session in (user, item, scorer):
        check_types(session, tensors)
    for what, rows, more in cases(count):
        given = {}
        for side, session in (("user_vector", user), ("item_vector", item)):
            names = [end.name for end in session.get_inputs()]
            given[side] = run(session, feeds(tensors, names, rows, more))["vector"]
        compare(run(scorer, given), tensors, rows, f"towers: {what}")


def check_alike(paths, tensors, count):
    first, second = (session_of(path) for path in paths)
    names = [end.name for end in first.get_inputs()]
    for what, rows, more in cases(count):
        given = feeds(tensors, names, rows, more)
        expected = run(first, given)
        for name, got in run(second, given).items():
            assert np.array_equal(got, expected[name]), (what, name, got, expected[name])


def main(arguments):
    tensors = read_tensors(arguments[0])
    count = len(next(values for name, values in tensors.items() if name.startswith("answer/")))
    if arguments[1] == "--towers":
        check_towers(arguments[2:], tensors, count)
    elif arguments[1] == "--alike":
        check_model(arguments[3], tensors, count)
        check_alike(arguments[2:], tensors, count)
    else:
        for path in arguments[1:]:
            check_model(path, tensors, count)


if __name__ == "__main__":
    main(sys.argv[1:])
