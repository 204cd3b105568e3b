"""NNC files of ours against nncodec, both ways: check_nnc.py ESPALIER. Run by scripts/check-nnc."""

import contextlib
import io
import os
import subprocess
import sys
import tempfile

import numpy
import torch
from nncodec import nnc

from tensor_files import load, save

OPTIONS = [
    [], ["--uniform"], ["--scan-order", "1"], ["--scan-order", "3", "--uniform"],
    ["--qp", "-20", "--lambda", "1"], ["--qp", "-28", "--lambda", "0.5", "--uniform"]]


def convnet():
    layers = []
    for inputs, outputs in [(3, 16), (16, 32), (32, 32)]:
        layers += [torch.nn.Conv2d(inputs, outputs, 3), torch.nn.BatchNorm2d(outputs)]
    return torch.nn.Sequential(*layers, torch.nn.Linear(32, 10))


def transformer():
    layer = torch.nn.TransformerEncoderLayer(48, 4, 96)
    return torch.nn.ModuleDict({
        "embedding": torch.nn.Embedding(100, 48), "encoder": torch.nn.TransformerEncoder(layer, 2)})


def arrays(module):
    return {
        name: value.numpy() if value.is_floating_point() else value.numpy().astype(numpy.int32)
        for name, value in module.state_dict().items()}


def pruned(tensors):
    """Codes of 8 bits of the largest tenth, with a row of zeros in each, and scales."""
    result = {}
    for name, tensor in tensors.items():
        if tensor.ndim < 2 or tensor.dtype != numpy.float32:
            continue
        scale = numpy.abs(tensor).max() / 127
        live = numpy.abs(tensor) >= numpy.quantile(numpy.abs(tensor), 0.9)
        codes = numpy.where(live, numpy.rint(tensor / scale), 0).astype(numpy.int8)
        codes[0] = 0
        result[name] = codes
        result[name + ".scale"] = numpy.array([scale], numpy.float32)
    return result


def quiet(function, *arguments, **options):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return function(*arguments, **options)


def same(ours, theirs, about):
    if set(ours) != set(theirs):
        sys.exit(f"{about}: other tensors: {set(ours) ^ set(theirs)}")
    for name, value in ours.items():
        other = numpy.asarray(theirs[name]).astype(
            numpy.float32 if value.dtype == numpy.float32 else numpy.int32)
        value = value if value.dtype == numpy.float32 else value.astype(numpy.int32)
        if other.reshape(value.shape).tobytes() != value.tobytes():
            sys.exit(f"{about}: '{name}' differs")


def main():
    espalier = os.path.abspath(sys.argv[1])
    torch.manual_seed(1)
    models = {"convnet": arrays(convnet()), "transformer": arrays(transformer())}
    models["sparse INT8"] = pruned(models["transformer"])
    here = os.path.dirname(os.path.abspath(__file__))
    with tempfile.TemporaryDirectory() as folder:
        # nncodec leaves its stream where it runs, too.
        os.chdir(folder)

        def path(name):
            return os.path.join(folder, name)

        def run(*arguments):
            subprocess.run([espalier, *arguments], check=True, stdout=subprocess.DEVNULL)

        def theirs(name):
            with open(path(name), "rb") as file:
                return quiet(nnc.decompress, bytearray(file.read()))

        for title, tensors in models.items():
            save(path("in.safetensors"), tensors)
            for options in OPTIONS:
                run("convert", path("in.safetensors"), "--to", path("x.nnc"), *options)
                run("convert", path("x.nnc"), "--to", path("out.safetensors"))
                ours = load(path("out.safetensors"))
                same(ours, theirs("x.nnc"), f"{title} {options}")
                for name, value in tensors.items():
                    if value.dtype != numpy.float32 and (ours[name] != value).any():
                        sys.exit(f"{title} {options}: '{name}' is not what it was")
            for options in [{}, {"use_dq": False, "scan_order": 2}, {"lambda_scale": 1.0}]:
                plain = {
                    name: value.reshape(value.shape or (1,)).astype(
                        numpy.float32 if value.dtype == numpy.float32 else numpy.int32)
                    for name, value in tensors.items()}
                stream = quiet(nnc.compress, plain, return_bitstream=True, **options)
                with open(path("y.nnc"), "wb") as file:
                    file.write(bytes(stream))
                run("convert", path("y.nnc"), "--to", path("out.safetensors"))
                same(load(path("out.safetensors")), theirs("y.nnc"), f"{title} theirs {options}")
            print(f"{title}: {len(tensors)} tensors agree, {len(OPTIONS)} ways of ours and 3 of nncodec's")

        with open(os.path.join(here, "../Tests/EspalierCodecTests/graph-1.0.hex")) as file:
            blob = bytes.fromhex(file.read())
        with open(path("network.espalier"), "wb") as file:
            file.write(blob)
        run("export", path("network.espalier"), "--format", "nnc", "--out", path("x.nnc"))
        run("convert", path("x.nnc"), "--to", path("out.safetensors"))
        same(load(path("out.safetensors")), theirs("x.nnc"), "exported network")
        print("exported network: agrees")


main()
