"""Parses a safetensors file by hand, by the rules of its specification."""
import json
import struct
import sys

import numpy as np

raw = open(sys.argv[1], "rb").read()
(size,) = struct.unpack("<Q", raw[:8])
assert size % 8 == 0 and raw[8:9] == b"{"
header = json.loads(raw[8 : 8 + size])
data = raw[8 + size :]
types = {"F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8", "U8": "u1"}
ranges = sorted(entry["data_offsets"] for entry in header.values())
assert ranges[0][0] == 0 and ranges[-1][1] == len(data)
assert all(a[1] == b[0] for a, b in zip(ranges, ranges[1:]))


def tensor(name):
    entry = header[name]
    begin, end = entry["data_offsets"]
    dtype = np.dtype(types[entry["dtype"]])
    assert (8 + size + begin) % dtype.itemsize == 0
    return np.frombuffer(data[begin:end], dtype).reshape(entry["shape"])


assert (tensor("weight") == 0.5 * np.arange(15, dtype="f4").reshape(3, 5)).all()
assert (tensor("flags") == [1, 2, 3]).all()
assert tensor("counter").shape == () and tensor("counter") == -7
