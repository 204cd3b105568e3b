"""One of PyTorch's ways to take a training step, in a process of its own that is told when to step.

Prints a line of JSON when it is ready; then reads a number of steps a line, and answers with seconds and losses.
"""

import argparse
import json
import time

import torch

from . import networks, state

# name: fused optimizer, channels last, compiled, bfloat16
CONFIGURATIONS = {
    "eager": (False, False, False, False),
    "fused": (True, False, False, False),
    "channels_last": (True, True, False, False),
    "compile": (True, False, True, False),
    "compile_channels_last": (True, True, True, False),
    "bf16": (True, False, False, True),
    "bf16_channels_last": (True, True, False, True),
    "compile_bf16": (True, False, True, True),
}


def configurations(network):
    """Those that make sense for a network."""
    has_channels = networks.is_images(network) and network != "mlp"
    return [n for n, (_, last, _, _) in CONFIGURATIONS.items() if has_channels or not last]


def resident():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--network")
    parser.add_argument("--configuration", choices=CONFIGURATIONS)
    parser.add_argument("--state")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    fused, last, compiled, bf16 = CONFIGURATIONS[options.configuration]
    before = resident()

    tensors = state.load(options.state)
    net = networks.build(options.network)
    with torch.no_grad():
        for own, parameter in net.named_parameters():
            parameter.copy_(tensors.pop("param." + networks.shared_name(net, own)))
    for own, module in net.named_modules():
        mask = tensors.pop("mask." + networks.shared_name(net, own + ".weight"), None) \
            if isinstance(module, networks.Linear) else None
        if mask is not None:
            module.mask = mask.float()
    inputs = {name.removeprefix("input."): tensor for name, tensor in tensors.items()}
    if last:
        net, inputs["x"] = net.to(memory_format=torch.channels_last), inputs["x"].to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=networks.rate(options.network), fused=fused)
    called = torch.compile(net) if compiled else net

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = networks.loss(net, called, inputs, bf16)
        loss.backward()
        optimizer.step()
        return loss

    if compiled:
        # Compiles now, without a change to the weights.
        networks.loss(net, called, inputs, bf16).backward()
    print(json.dumps({"base_kb": before}), flush=True)
    while True:
        try:
            count = int(input())
        except EOFError:
            return
        seconds, losses = [], []
        for _ in range(count):
            start = time.perf_counter()
            losses.append(step().item())
            seconds.append(time.perf_counter() - start)
        print(json.dumps({"seconds": seconds, "losses": losses}), flush=True)


if __name__ == "__main__":
    main()
