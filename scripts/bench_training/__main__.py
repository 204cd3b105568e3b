"""Takes turns, compares and prints."""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from . import networks, peer, sides, state

COMPARED = 20
TOLERANCE = 1e-3
LONGEST_WAIT = 12


def flops(name):
    """Of the products of one step, counted from a network without memory."""
    with torch.device("meta"):
        net = networks.build(name)
        if isinstance(net, networks.Bert):
            size = (net.batch, net.length)
            labels = size if net.predicts_tokens else size[:1]
            inputs = {
                "ids": torch.zeros(size, dtype=torch.long), "mask": torch.ones(size),
                "labels": torch.zeros(labels, dtype=torch.long)}
        else:
            inputs = {"x": torch.zeros(net.batch, *net.shape), "labels": torch.zeros(net.batch, dtype=torch.long)}
    # The fused kernel of attention is not counted; products and softmax are.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        networks.loss(net, net, inputs, False).backward()
    return counter.get_total_flops()


def begin(network, options, path):
    """The sides that can be started; reasons of the others."""
    wanted = [("espalier", "float"), ("espalier", "bf16")] + [("peer", c) for c in peer.configurations(network)]
    started, reasons = [], {}
    for kind, what in wanted:
        label = what if kind == "peer" else "espalier" if what == "float" else "espalier bf16"
        if options.only and label not in options.only:
            continue
        try:
            started.append(
                sides.espalier(network, what, options.threads, path) if kind == "espalier"
                else sides.peer(network, what, options.threads, path))
        except (RuntimeError, OSError) as error:
            reasons[label] = str(error)
            print(f"  {label} is left out: {error}", flush=True)
    return started, reasons


def is_rounded(name):
    return "bf16" in name


def measure(network, options, path):
    state.write(network, path)
    started, reasons = begin(network, options, path)
    if not started:
        return {"network": network, "left_out": reasons}
    # The first steps warm up, and show whether all sides do the same.
    for side in started:
        side.losses = side.steps(COMPARED)["losses"]
    discarded, disturbed = 0, 0
    for _ in range(options.rounds):
        for side in started:
            count = max(1, round(options.seconds / statistics.median(side.steps(1)["seconds"])))
            for attempt in range(LONGEST_WAIT):
                answer, others = sides.turn(side, count)
                if others <= 0.25:
                    break
                discarded += 1
                time.sleep(0.5)
            disturbed += others > 0.25
            side.seconds += answer["seconds"]
    result = {
        "network": network, "threads": options.threads, "left_out": reasons, "rounds": options.rounds,
        "discarded_turns": discarded, "disturbed_turns": disturbed, "peer_flops": flops(network), "sides": {}}
    # PyTorch's ways are compared with its first one in floats, ours with the nearest of them: sums in another order drift
    # apart, PyTorch's among themselves too.
    peers = [side for side in started if not side.name.startswith("espalier")] or started
    floats = [side for side in peers if not is_rounded(side.name)] or peers[:1]
    for side in started:
        times = sorted(side.seconds)
        median = statistics.median(times)
        result["sides"][side.name] = {
            "ms": 1000 * median, "best_ms": 1000 * times[0],
            "spread": (times[int(0.9 * (len(times) - 1))] - times[int(0.1 * (len(times) - 1))]) / median,
            "steps": len(times), "peak_mb": side.peak() / 1024,
            "base_mb": side.start["base_kb"] / 1024 if "base_kb" in side.start else None,
            "losses": side.losses, "loss_difference": difference(side, floats if side not in peers else floats[:1]),
            **{k: v for k, v in side.start.items() if k != "base_kb"}}
        side.end()
    compare(result)
    return result


def difference(side, others):
    """The largest between the losses of a side and those of the nearest of some others."""
    return min(max(abs(a - b) for a, b in zip(side.losses, other.losses)) for other in others)


def compare(result):
    """Ratios to the best of PyTorch's ways of the same precision, and whether float losses agree."""
    all_sides = result["sides"]
    result["losses_agree"] = all_sides.get("espalier", {}).get("loss_difference", 0) <= TOLERANCE
    for own, rounded in (("espalier", False), ("espalier bf16", True)):
        peers = {n: s["ms"] for n, s in all_sides.items() if not n.startswith("espalier")}
        same = {n: ms for n, ms in peers.items() if is_rounded(n) == rounded}
        if own not in all_sides or not same:
            continue
        best = min(same, key=same.get)
        all_sides[own]["best_peer"], all_sides[own]["ratio"] = best, same[best] / all_sides[own]["ms"]


def show(result):
    if "sides" not in result:
        return
    own = result["sides"].get("espalier", {})
    counted = f"{result['peer_flops'] / 1e9:.2f} GFLOP a step in PyTorch"
    if own:
        counted += f", {own['flops'] / 1e9:.2f} in Espalier"
        if own["live_flops"] != own["flops"]:
            counted += f", {own['live_flops'] / 1e9:.2f} of them with weights that live"
        counted += f"; {own['isa']}, OpenBLAS for {own['blas_core']}"
    print(f"\n{result['network']}: {counted}")
    print(f"  {result['discarded_turns']} turns discarded, {result['disturbed_turns']} kept though disturbed")
    print(f"  {'':22s} {'median':>10s} {'best':>10s} {'spread':>7s} {'peak':>8s}  {'first losses off by':>19s}")
    for name, side in result["sides"].items():
        line = f"  {name:22s} {side['ms']:7.2f} ms {side['best_ms']:7.2f} ms {100 * side['spread']:5.0f} % " \
            f"{side['peak_mb']:5.0f} MB  {side['loss_difference']:19.1e}"
        if "ratio" in side:
            line += f"  {side['ratio']:.2f} x {side['best_peer']}"
        print(line)
    if not result["losses_agree"]:
        print(f"  THE LOSSES OF THE FIRST {COMPARED} STEPS DIFFER by more than {TOLERANCE}")


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench-training", description=__doc__)
    parser.add_argument("--networks", nargs="+", default=networks.NAMES, help=" ".join(networks.NAMES))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="of a turn, at least one step")
    parser.add_argument("--only", nargs="+", help="sides to run, such as: espalier eager compile_bf16")
    parser.add_argument("--json", help="a file for the results")
    options = parser.parse_args()
    versions = {
        "torch": torch.__version__, "python": platform.python_version(), "threads": options.threads,
        "torch_cpu": torch.backends.cpu.get_cpu_capability(), "mkl": torch.backends.mkl.is_available(),
        "onednn": torch.backends.mkldnn.is_available()}
    print(f"PyTorch {versions['torch']} ({versions['torch_cpu']}; MKL {versions['mkl']}, oneDNN "
          f"{versions['onednn']}), {options.threads} threads, {platform.machine()}")
    results = []
    for network in options.networks:
        with tempfile.TemporaryDirectory() as folder:
            results.append(measure(network, options, os.path.join(folder, "state.safetensors")))
        show(results[-1])
        if options.json:
            with open(options.json, "w") as file:
                json.dump({"versions": versions, "results": results}, file, indent=1)
    if not all(result.get("losses_agree", True) for result in results):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
