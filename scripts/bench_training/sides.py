"""Processes that take training steps when they are told to, and what else the machine does meanwhile."""

import json
import os
import subprocess
import sys
import time

TICKS = os.sysconf("SC_CLK_TCK")


class Side:
    """A process that takes steps. `start` is what it said when it was ready."""

    def __init__(self, name, command):
        self.name, self.command, self.seconds, self.losses = name, command, [], []
        environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS")}
        environment["PYTHONPATH"] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=environment)
        self.start = self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            lines = [line for line in self.process.stderr.read().splitlines() if line.strip()]
            raise RuntimeError(lines[-1][:300] if lines else f"ended with {self.process.returncode}")
        return json.loads(line)

    def steps(self, count):
        print(count, file=self.process.stdin, flush=True)
        return self._answer()

    def ticks(self):
        """Of processor time so far, all threads."""
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    def peak(self):
        """The most memory that it held, in kB."""
        with open(f"/proc/{self.process.pid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def espalier(network, precision, threads, state, *way):
    name = "espalier" if precision == "float" else "espalier bf16"
    return Side(name, [
        ".build/release/espalier-bench", "--turns", network, "--state", state, "--precision", precision,
        "--threads", str(threads), *way])


def peer(network, configuration, threads, state):
    return Side(configuration, [
        sys.executable, "-m", "bench_training.peer", "--network", network, "--configuration", configuration,
        "--state", state, "--threads", str(threads)])


def busy():
    """Ticks that all processors have worked."""
    with open("/proc/stat") as file:
        values = [int(v) for v in file.readline().split()[1:9]]
    return sum(values) - values[3] - values[4]


def turn(side, count):
    """The answer to `count` steps, and how many cores other processes used meanwhile."""
    before, own, start = busy(), side.ticks(), time.perf_counter()
    answer = side.steps(count)
    elapsed = time.perf_counter() - start
    return answer, max(busy() - before - (side.ticks() - own), 0) / TICKS / elapsed
