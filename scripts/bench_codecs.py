"""Speeds and sizes of NNC against nncodec: bench_codecs.py BENCH WEIGHTS ROUNDS. Run by scripts/bench-codecs."""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy
import torch
from nncodec import nnc

from tensor_files import load, save


def codes(tensor):
    scale = numpy.abs(tensor).max(axis=1, keepdims=True) / 127
    scale[scale == 0] = 1
    return numpy.rint(tensor / scale).astype(numpy.int32)


def pruned(tensor):
    """The largest tenth of a tensor, zeros elsewhere."""
    place = int(tensor.size * 0.9)
    threshold = numpy.partition(numpy.abs(tensor).ravel(), place)[place]
    return numpy.where(numpy.abs(tensor) >= threshold, tensor, 0)


def theirs(tensors):
    count = sum(tensor.size for tensor in tensors.values())
    with contextlib.redirect_stdout(io.StringIO()):
        start = time.perf_counter()
        stream = nnc.compress(tensors, return_bitstream=True)
        middle = time.perf_counter()
        nnc.decompress(bytearray(stream))
        end = time.perf_counter()
    return {
        "bytes": len(stream), "encode": count / (middle - start) / 1e6,
        "decode": count / (end - middle) / 1e6}


def main():
    bench, weights, rounds = os.path.abspath(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(1)
    floats = {name: tensor for name, tensor in load(weights).items() if tensor.ndim == 2}
    sets = {
        "floats, qp -38": floats,
        "INT8": {name: codes(tensor) for name, tensor in floats.items()},
        "INT8, 90 % zero": {name: codes(pruned(tensor)) for name, tensor in floats.items()}}
    print(f"{sum(tensor.size for tensor in floats.values())} weights, best of {rounds} rounds, M weights/s")
    for title, tensors in sets.items():
        with tempfile.TemporaryDirectory() as folder:
            # nncodec leaves its stream where it runs, too.
            os.chdir(folder)
            path = os.path.join(folder, "x.safetensors")
            save(path, tensors)
            ours, other = [], []
            for _ in range(rounds):
                result = subprocess.run(
                    [bench, "--nnc", path, "--seconds", "3", "--threads", "1"], check=True,
                    stdout=subprocess.PIPE)
                ours.append(json.loads(result.stdout))
                other.append(theirs(tensors))
        line = f"{title}: "
        for way in ["encode", "decode"]:
            mine, peer = (max(one[way] for one in side) for side in (ours, other))
            line += f"{way} {mine:.2f} against {peer:.2f} ({mine / peer:.1f}x), "
        size, peer = ours[0]["bytes"], other[0]["bytes"]
        print(line + f"bytes {size} against {peer} ({100 * (size / peer - 1):+.2f} %)", flush=True)


main()
