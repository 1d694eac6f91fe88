"""average_check.py RELATION FOLDER [OTHER]: what must hold between tensors of folders with
*.safetensors files (those of a checkpoint hold slices in their order)."""
import json
import pathlib
import struct
import sys

AVERAGE = "optimizer/average/"


def read(folder):
    """name -> bytes"""
    tensors = {}
    for path in sorted(pathlib.Path(folder).glob("*.safetensors")):
        data = path.read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        for name, entry in json.loads(data[8:8 + size]).items():
            if name != "__metadata__":
                begin, end = (8 + size + offset for offset in entry["data_offsets"])
                tensors[name] = tensors.get(name, b"") + data[begin:end]
    return tensors


def weights(tensors):
    return {name: value for name, value in tensors.items() if not name.startswith("optimizer/")}


def averages(tensors):
    found = {name[len(AVERAGE):]: value for name, value in tensors.items()
             if name.startswith(AVERAGE)}
    assert found.keys() == weights(tensors).keys(), sorted(found)   # no batch norm, no sparse table
    return found


def main():
    relation, *folders = sys.argv[1:]
    one, *other = [read(folder) for folder in folders]
    assert weights(one), folders
    if relation == "same_weights":
        assert weights(one) == weights(other[0])
    elif relation == "moved_averages":
        for name, value in averages(one).items():
            assert value != one[name], name
    elif relation == "still_averages":
        assert averages(one) == weights(one)
    elif relation == "averages_as_weights":
        assert averages(one) == weights(other[0])
    else:
        sys.exit(relation)


main()
