"""safetensors files as dictionaries of numpy arrays, without the package of that name."""

import json
import struct

import numpy

TYPES = {"F32": "<f4", "I8": "<i1", "I16": "<i2", "I32": "<i4", "I64": "<i8"}


def load(path):
    with open(path, "rb") as file:
        blob = file.read()
    (size,) = struct.unpack("<Q", blob[:8])
    header, data = json.loads(blob[8:8 + size]), blob[8 + size:]
    header.pop("__metadata__", None)
    return {
        name: numpy.frombuffer(data[slice(*entry["data_offsets"])], TYPES[entry["dtype"]])
        .reshape(entry["shape"])
        for name, entry in header.items()}


def save(path, tensors):
    header, parts, offset = {}, [], 0
    for name, tensor in tensors.items():
        kind = next(kind for kind, code in TYPES.items() if numpy.dtype(code) == tensor.dtype)
        data = numpy.ascontiguousarray(tensor).tobytes()
        header[name] = {
            "dtype": kind, "shape": list(tensor.shape), "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
        parts.append(data)
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(parts))
