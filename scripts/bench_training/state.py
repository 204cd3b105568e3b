"""What both sides begin with: weights, masks and a batch in a safetensors file."""

import json
import struct

import numpy
import torch

from . import networks

TYPES = {"float32": "F32", "int64": "I64", "uint8": "U8"}


def write(name, path):
    """Draws weights and a batch for a network and writes them."""
    torch.manual_seed(1)
    net = networks.build(name)
    tensors = {}
    for own, parameter in net.named_parameters():
        tensors["param." + networks.shared_name(net, own)] = parameter.detach().numpy()
    metadata = {"rate": repr(networks.rate(name))}
    if isinstance(net, networks.Bert):
        metadata["configuration"] = json.dumps(net.configuration)
        size = (net.batch, net.length)
        tensors["input.ids"] = torch.randint(0, net.words.num_embeddings, size).numpy()
        tensors["input.mask"] = numpy.ones(size, numpy.uint8)
        labels = torch.randint(0, net.words.num_embeddings, size) if net.predicts_tokens \
            else torch.randint(0, 2, size[:1])
        tensors["input.labels"] = labels.numpy()
        for own, mask in masks(net, name).items():
            shared = networks.shared_name(net, own + ".weight")
            tensors["mask." + shared] = mask.numpy()
            tensors["param." + shared] = tensors["param." + shared] * mask.numpy()
    else:
        tensors["input.x"] = torch.rand(net.batch, *net.shape).numpy()
        tensors["input.labels"] = (torch.arange(net.batch) % 10).numpy()
    save(path, tensors, metadata)


def masks(net, name):
    """Random masks of a network's name, such as minilm-90 or minilm-90-1x4, by layer."""
    parts = name.split("-")[1:]
    if not parts:
        return {}
    outputs, inputs = (int(n) for n in parts[1].split("x")) if len(parts) > 1 else (1, 1)
    result = {}
    for own, layer in net.masked().items():
        rows, columns = layer.weight.shape
        count = rows // outputs * (columns // inputs)
        live = torch.zeros(count, dtype=torch.uint8)
        live[torch.randperm(count)[:round(count * (1 - int(parts[0]) / 100))]] = 1
        blocks = live.view(rows // outputs, columns // inputs)
        result[own] = blocks.repeat_interleave(outputs, 0).repeat_interleave(inputs, 1)
    return result


def save(path, tensors, metadata):
    header, offset = {"__metadata__": metadata}, 0
    for name, tensor in tensors.items():
        header[name] = {
            "dtype": TYPES[str(tensor.dtype)], "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes]}
        offset += tensor.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(numpy.ascontiguousarray(tensor).tobytes())


def load(path):
    """The tensors by name."""
    kinds = {short: name for name, short in TYPES.items()}
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header, result, start = json.loads(file.read(size)), {}, 8 + size
        header.pop("__metadata__")
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            file.seek(start + begin)
            data = numpy.frombuffer(bytearray(file.read(end - begin)), kinds[entry["dtype"]])
            result[name] = torch.from_numpy(data.reshape(entry["shape"]))
    return result
