"""Entropy-coded INT8 weights of MiniLM-L6 against nncodec, xz and zstd; run by scripts/bench-entropy.

Each matrix is quantized symmetrically by output row, absmax / 127; for the second set each is pruned to its largest
tenth first. All coders get the same integers and give them back.
"""

import argparse
import json
import os
import struct
import subprocess
import tempfile
import time

import numpy as np

BENCH = ".build/release/espalier-bench"


def matrices(path):
    blob = open(path, "rb").read()
    (size,) = struct.unpack("<Q", blob[:8])
    header, data = json.loads(blob[8:8 + size]), blob[8 + size:]
    for name, entry in sorted(header.items()):
        if name != "__metadata__" and len(entry["shape"]) == 2:
            begin, end = entry["data_offsets"]
            yield name, np.frombuffer(data[begin:end], "<f4").reshape(entry["shape"])


def quantized(weights, pruned):
    weights = weights.copy()
    if pruned:
        count = round(0.9 * weights.size)
        weights.ravel()[np.argpartition(np.abs(weights), count - 1, axis=None)[:count]] = 0
    largest = np.abs(weights).max(1, keepdims=True)
    largest[largest == 0] = 1
    return np.clip(np.rint(weights / largest * 127), -127, 127).astype(np.int8)


def nncodec(codes, folder, search):
    from nncodec import nnc

    integers = {name: q.astype(np.int32) for name, q in codes.items()}
    start = time.perf_counter()
    stream = nnc.compress(
        integers, bitstream_path=os.path.join(folder, "x.nnc"), use_dq=False, param_opt=search,
        return_bitstream=True, verbose=False)
    middle = time.perf_counter()
    back = nnc.decompress(stream)
    end = time.perf_counter()
    assert all(np.array_equal(back[name], codes[name]) for name in codes), "nncodec lost weights"
    return len(stream), middle - start, end - middle


def command(encode, decode, path):
    start = time.perf_counter()
    with open(path + ".coded", "wb") as out:
        subprocess.run([*encode, path], stdout=out, check=True)
    middle = time.perf_counter()
    subprocess.run([*decode, path + ".coded"], stdout=subprocess.DEVNULL, check=True)
    return os.path.getsize(path + ".coded"), middle - start, time.perf_counter() - middle


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3, help="for each mode, encoding and decoding")
    parser.add_argument("--skip-nncodec", action="store_true")
    options = parser.parse_args()
    folder = os.environ.get("ESPALIER_MINILM", ".build/minilm")
    for pruned in (False, True):
        codes = {name: quantized(w, pruned) for name, w in matrices(folder + "/model.safetensors")}
        weights = sum(q.size for q in codes.values())
        rows = []
        with tempfile.TemporaryDirectory() as place:
            path = os.path.join(place, "codes")
            with open(path, "wb") as file:
                for q in codes.values():
                    file.write(struct.pack("<II", *q.shape) + q.tobytes())
            raw = os.path.join(place, "raw")
            with open(raw, "wb") as file:
                file.write(b"".join(q.tobytes() for q in codes.values()))
            entropy = bound = 0
            lines = subprocess.run(
                [BENCH, "--codes", path, "--seconds", str(options.seconds)], check=True, capture_output=True, text=True
            ).stdout.splitlines()
            for line in map(json.loads, lines):
                entropy, bound = line["entropy_bytes"], line["bound_bytes"]
                rows.append((f"{line['mode']}, {line['threads']} threads", line["bytes"], line["encode"], line["decode"]))
            peers = []
            if not options.skip_nncodec:
                peers += [("nncodec", lambda: nncodec(codes, place, True)),
                          ("nncodec, no search", lambda: nncodec(codes, place, False))]
            peers += [("xz -9", lambda: command(["xz", "-9", "-T1", "-c"], ["xz", "-dc"], raw)),
                      ("zstd -19", lambda: command(["zstd", "-19", "-q", "-c"], ["zstd", "-dqc"], raw))]
            for name, run in peers:
                size, encode, decode = run()
                rows.append((name, size, weights / encode / 1e6, weights / decode / 1e6))
        reference = next((size for name, size, _, _ in rows if name == "nncodec"), None)
        print(f"MiniLM-L6 INT8{', 90 % pruned' if pruned else ''}: {weights} weights, order-0 entropy "
              f"{8 * entropy / weights:.4f} bits, bound {8 * bound / weights:.4f}")
        print(f"{'':22}{'bits/weight':>12}{'/entropy':>10}{'/nncodec':>10}{'enc M/s':>10}{'dec M/s':>10}")
        for name, size, encode, decode in rows:
            ratio = f"{size / reference:.4f}" if reference else "-"
            print(f"{name:22}{8 * size / weights:12.4f}{size / entropy:10.4f}{ratio:>10}{encode:10.1f}{decode:10.1f}",
                  flush=True)


if __name__ == "__main__":
    main()
