"""Times training steps of Espalier and PyTorch by turns and prints ratios; called by scripts/bench-training."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import time

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def mlp():
    net = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    return net, (128, 784)


def convnet():
    net = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 49, 128), nn.ReLU(), nn.Linear(128, 10))
    return net, (128, 1, 28, 28)


NETWORKS = {"mlp": mlp, "convnet": convnet}


class Torch:
    """One of PyTorch's ways to take a step."""

    def __init__(self, name, network, fused=False, channels_last=False, compiled=False, bf16=False):
        torch.manual_seed(1)
        net, shape = NETWORKS[network]()
        self.name, self.bf16 = name, bf16
        self.x = torch.rand(shape)
        if channels_last and len(shape) == 4:
            net, self.x = net.to(memory_format=torch.channels_last), self.x.to(memory_format=torch.channels_last)
        self.y = torch.arange(shape[0]) % 10
        self.net = torch.compile(net) if compiled else net
        self.optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=fused)
        self.loss = nn.CrossEntropyLoss()

    def forward(self):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16):
            return self.loss(self.net(self.x), self.y)

    def steps(self, count):
        seconds = []
        for _ in range(count):
            start = time.perf_counter()
            self.optimizer.zero_grad(set_to_none=True)
            self.forward().backward()
            self.optimizer.step()
            seconds.append(time.perf_counter() - start)
        return seconds

    def flops(self):
        with FlopCounterMode(display=False) as counter:
            self.forward().backward()
        return counter.get_total_flops()


class Espalier:
    name = "espalier"

    def __init__(self, network, threads):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS")}
        self.process = subprocess.Popen(
            [".build/release/espalier-bench", "--turns", network, "--threads", str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def steps(self, count):
        print(count, file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())["seconds"]


def busy():
    """Cores' worth of work that others do, over a tenth of a second."""
    def read():
        with open("/proc/stat") as file:
            values = [int(v) for v in file.readline().split()[1:]]
        return sum(values) - values[3] - values[4]
    before = read()
    time.sleep(0.1)
    return (read() - before) / 10.0


def measure(network, threads, rounds):
    sides = [
        Espalier(network, threads),
        Torch("eager", network),
        Torch("fused", network, fused=True),
        Torch("channels last, fused", network, fused=True, channels_last=True),
        Torch("bf16, fused", network, fused=True, bf16=True),
    ]
    if network == "mlp":
        del sides[3]
    times = {side.name: [] for side in sides}
    disturbed = 0
    for side in sides:
        side.steps(20)
    count = max(5, int(0.3 / statistics.median(sides[2].steps(5))))
    for _ in range(rounds):
        for side in sides:
            # A turn waits until other processes use at most a quarter of a core; not for ever.
            waits = 0
            while busy() > 0.25 and waits < 30:
                waits += 1
            disturbed += waits == 30
            seconds = side.steps(count)
            times[side.name] += seconds
    medians = {name: statistics.median(t) for name, t in times.items()}
    spreads = {}
    for name, t in times.items():
        t.sort()
        spreads[name] = (t[int(0.9 * len(t))] - t[int(0.1 * len(t))]) / medians[name]
    peers = {n: m for n, m in medians.items() if n != "espalier" and "bf16" not in n}
    best = min(peers, key=peers.get)
    return {
        "network": network, "threads": threads, "ms": {n: 1000 * m for n, m in medians.items()},
        "spread": spreads, "best_float_peer": best, "ratio": peers[best] / medians["espalier"],
        "peer_flops_a_step": sides[1].flops(), "disturbed_turns": disturbed,
        "turns": rounds * len(sides),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--networks", nargs="+", choices=sorted(NETWORKS), default=sorted(NETWORKS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", help="a file for the results")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"PyTorch {torch.__version__}, {options.threads} threads, {platform.processor() or platform.machine()}")
    results = []
    for network in options.networks:
        result = measure(network, options.threads, options.rounds)
        results.append(result)
        print(f"\n{network}: {result['peer_flops_a_step'] / 1e9:.2f} GFLOP a step, "
              f"{result['disturbed_turns']} of {result['turns']} turns disturbed")
        for name, ms in result["ms"].items():
            print(f"  {name:24s} {ms:8.2f} ms  spread {100 * result['spread'][name]:.0f} %")
        print(f"  {result['ratio']:.2f} times the best float peer ({result['best_float_peer']})")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"torch": torch.__version__, "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
