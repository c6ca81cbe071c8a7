"""What derivatives in forward mode cost, side by side in one run.

    python benchmarks/dual.py [--rounds 40] [--json FILE]

- arithmetic: one tangent through a chain of arithmetic on 200,000 numbers under jit, by
  Dual and by ``jax.jvp`` and by derivative rules written out by hand;
- gradient: Rosenbrock's function in 100 variables: ``dual.gradient``, ``jax.jacfwd`` by
  hand, ``torch.func.jacfwd``, and a dual class in plain Python.

Each round times every system once, in turn; the figure is the fastest round: on a
shared machine it is the one that was disturbed least. Every system must give the same
derivatives, or the script says so.
"""

import argparse
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch

import simplex_jax.dual.numpy as dnp
from simplex_jax import dual

jax.config.update("jax_enable_x64", True)


class PlainDual:
    """A value and k partial derivatives as Python floats: the textbook's class."""

    def __init__(self, value: float, partials: list[float]):
        self.value, self.partials = value, partials

    def __add__(self, other):
        other = self._number(other)
        pairs = zip(self.partials, other.partials, strict=True)
        return PlainDual(self.value + other.value, [a + b for a, b in pairs])

    def __mul__(self, other):
        other = self._number(other)
        pairs = zip(self.partials, other.partials, strict=True)
        a, b = self.value, other.value
        return PlainDual(a * b, [a * db + da * b for da, db in pairs])

    def __sub__(self, other):
        return self + self._number(other) * -1.0

    def __rsub__(self, other):
        return self * -1.0 + other

    __radd__, __rmul__ = __add__, __mul__

    def _number(self, x):
        if isinstance(x, PlainDual):
            return x
        return PlainDual(x, [0.0] * len(self.partials))


def chain(x, y, sin):
    """A few dozen operations, so that the arithmetic outweighs a call."""
    for _ in range(8):
        x, y = x * y + 0.5, (x - y) / (2.0 + y * y)
    return sin(x) * y


def chain_by_hand(x, y, dx, dy):
    for _ in range(8):
        bottom = 2.0 + y * y
        quotient = (x - y) / bottom
        slope = ((dx - dy) - quotient * (2.0 * y * dy)) / bottom
        x, dx, y, dy = x * y + 0.5, dx * y + x * dy, quotient, slope
    return jnp.sin(x) * y, jnp.cos(x) * dx * y + jnp.sin(x) * dy


def rosenbrock(x):
    return (100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2).sum()


def rosenbrock_plain(x):
    total = 0.0
    for a, b in zip(x[:-1], x[1:], strict=True):
        bend, rest = b - a * a, 1.0 - a
        total = 100.0 * bend * bend + rest * rest + total
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    result = {
        "command": "python benchmarks/dual.py",
        "commit": _commit(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": {"jax": jax.__version__, "torch": torch.__version__},
        "arithmetic": arithmetic(args.rounds),
        "gradient": gradient(args.rounds),
    }
    print_table(result)
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


def arithmetic(rounds: int) -> dict:
    x = jnp.linspace(0.1, 0.9, 200_000)
    arguments = (x, x[::-1] * 0.5, jnp.ones_like(x), jnp.sin(x))

    def with_dual(x, y, dx, dy):
        out = chain(dual.Dual(x, dx), dual.Dual(y, dy), dnp.sin)
        return out.primal, out.tangent

    def with_jvp(x, y, dx, dy):
        return jax.jvp(lambda x, y: chain(x, y, jnp.sin), (x, y), (dx, dy))

    lowered = {
        name: jax.jit(f).lower(*arguments)
        for name, f in {
            "Dual": with_dual,
            "jax.jvp": with_jvp,
            "rules by hand": chain_by_hand,
        }.items()
    }
    # All but the first line, which names the function.
    programs = [lowered[n].as_text().splitlines()[1:] for n in ("Dual", "jax.jvp")]
    compiled = {name: program.compile() for name, program in lowered.items()}

    def run(f: Callable) -> Callable:
        return lambda: np.asarray(jax.block_until_ready(f(*arguments))[1])

    measured = alternate({name: run(f) for name, f in compiled.items()}, rounds)
    measured["same_program"] = programs[0] == programs[1]
    return measured


def gradient(rounds: int) -> dict:
    start = np.linspace(-1.5, 2.0, 100)
    ours = jax.jit(dual.gradient(rosenbrock))
    by_hand = jax.jit(jax.jacfwd(rosenbrock))
    theirs = torch.func.jacfwd(rosenbrock)
    array, tensor = jnp.asarray(start), torch.tensor(start)

    def plain():
        rows = np.eye(100).tolist()
        x = [PlainDual(v, row) for v, row in zip(start.tolist(), rows, strict=True)]
        return np.array(rosenbrock_plain(x).partials)

    systems = {
        "dual.gradient": lambda: np.asarray(ours(array)),
        "jax.jacfwd": lambda: np.asarray(by_hand(array)),
        "torch.func.jacfwd": lambda: theirs(tensor).numpy(),
        "plain Python": plain,
    }
    return alternate(systems, rounds)


def alternate(systems: dict[str, Callable], rounds: int, repeats: int = 20) -> dict:
    """Time the systems in turn; the first round warms up and is not counted."""
    seconds: dict = {name: [] for name in systems}
    outputs, load = {}, []
    for number in range(rounds + 1):
        load.append(os.getloadavg()[0])
        for name, run in systems.items():
            for _ in range(repeats):
                begin = time.perf_counter()
                outputs[name] = run()
                if number:
                    seconds[name].append(time.perf_counter() - begin)
    first = next(iter(systems))
    return {
        "load_average": [min(load), max(load)],
        "systems": [
            {
                "name": name,
                "microseconds": 1e6 * min(times),
                "same": bool(np.allclose(outputs[name], outputs[first], rtol=1e-12)),
            }
            for name, times in seconds.items()
        ],
    }


def print_table(result: dict) -> None:
    for part in ("arithmetic", "gradient"):
        systems = result[part]["systems"]
        ours = systems[0]["microseconds"]
        print(f"{part:20} microseconds   of {systems[0]['name']:14} same result")
        for system in systems:
            ratio = system["microseconds"] / ours
            print(
                f"{system['name']:20} {system['microseconds']:12.1f} {ratio:12.3f} x"
                f"      {system['same']}"
            )
        low, high = result[part]["load_average"]
        print(f"load average {low:.1f} to {high:.1f}")
    same = result["arithmetic"]["same_program"]
    print(f"Dual and jax.jvp are the same program to the compiler: {same}")


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
