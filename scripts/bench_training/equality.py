"""Whether the ways to take the same training steps end alike; scripts/check-training calls it.

Steps with one thread, with two and in a second process give the same bytes and ask the system for no memory; weights held
as their live entries, recomputation and parts of a batch give the losses of the dense masked computation.
"""

import argparse
import sys
import tempfile

from . import networks, sides, state

# Of losses near 1, after as many steps as are compared; float sums in another order drift apart slowly.
TOLERANCE = 1e-3
WARM_UP = 3


def run(network, path, steps, threads, *way):
    """The answers to a few first steps and to the rest."""
    side = sides.espalier(network, "float", threads, path, *way)
    first, rest = side.steps(min(WARM_UP, steps)), side.steps(steps - min(WARM_UP, steps))
    side.end()
    return first["losses"] + rest["losses"], rest["checksum"], rest["allocations"]


def same_bytes(network, path, steps):
    runs = [run(network, path, steps, threads) for threads in (1, 2, 2)]
    same = len({(tuple(losses), checksum) for losses, checksum, _ in runs}) == 1
    allocations = [allocated for _, _, allocated in runs]
    print(f"{network}: {steps} steps with 1, 2 and 2 threads: {'the same bytes' if same else 'DIFFERENT BYTES'}; "
          f"blocks of memory asked of the system after {WARM_UP} steps: {allocations}", flush=True)
    return same and allocations[0] == 0


def same_losses(network, path, steps):
    ways = {"recomputed": ["--recompute"], "in four parts": ["--micro-batches", "4"],
            "both": ["--recompute", "--micro-batches", "4"]}
    whole = run(network, path, steps, 2, "--dense")[0]
    print(f"{network}: {steps} steps of the dense masked computation: loss {whole[0]:.5f} to {whole[-1]:.5f}", flush=True)
    agree = True
    for name, way in {"live": [], **{f"live, {n}": w for n, w in ways.items()}}.items():
        losses = run(network, path, steps, 2, *way)[0]
        most = max(abs(a - b) for a, b in zip(losses, whole))
        agree &= most <= TOLERANCE
        print(f"  {name:22s} off by {most:.1e} at most", flush=True)
    return agree


def main():
    parser = argparse.ArgumentParser(prog="scripts/check-training", description=__doc__)
    parser.add_argument("--networks", nargs="+", default=networks.NAMES, help=" ".join(networks.NAMES))
    parser.add_argument("--steps", type=int, default=20, help="whose bytes are compared")
    parser.add_argument("--losses", type=int, default=200, help="losses of masked networks to compare, 0 for none")
    options = parser.parse_args()
    good = True
    for network in options.networks:
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/state.safetensors"
            state.write(network, path)
            good &= same_bytes(network, path, options.steps)
            if "-" in network and options.losses:
                good &= same_losses(network, path, options.losses)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
