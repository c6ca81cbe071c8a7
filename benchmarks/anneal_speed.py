"""Steps of annealing chains per second of the processor, side by side in one run.

    python benchmarks/anneal_speed.py [--rounds 5] [--json FILE]

Rastrigin's function in ten dimensions, normal steps in all coordinates, and tours of 50
cities by 2-opt, where a move's change of length comes from four distances. Every system
has the same moves, accepts by Metropolis' rule at an exponential temperature and keeps
its best: 64 vmapped chains of ``anneal.anneal_problem``; 64 of them one after the
other, compiled; plain Python with its own random numbers, lists and floats; NumPy, one
chain, random numbers drawn in blocks; and NumPy with 64 chains in every array.

Seconds are of this process, all threads together, so that a second thread that waits is
paid for. Each round runs every system once, in turn, and the figure is the fastest
round. All must end in the same range of energies, or the script says so.
"""

import argparse
import json
import math
import os
import platform
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from simplex_jax import anneal

CHAINS, STEPS = 64, 2000
DIMENSION, WIDTH, BOX = 10, 0.3, 5.12
CITIES = 50
PLACES = np.random.default_rng(0).uniform(size=(CITIES, 2))
DISTANCE = np.linalg.norm(PLACES[:, None] - PLACES, axis=-1)
# Initial temperature and rate, by problem.
COOLING = {"rastrigin": (5.0, 3e-3), "tsp_50": (0.2, 2e-3)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    git = ["git", "rev-parse", "--short", "HEAD"]
    here = Path(__file__).parent
    commit = subprocess.run(git, cwd=here, capture_output=True, text=True, check=False)
    result = {
        "command": "python benchmarks/anneal_speed.py",
        "commit": commit.stdout.strip() or "unknown",
        "machine": f"{len(os.sched_getaffinity(0))} of {os.cpu_count()} cores, "
        f"{platform.machine()}",
        "versions": {"jax": jax.__version__, "numpy": np.__version__},
    }
    for name in SYSTEMS:
        result[name] = measure(name, args.rounds)
        show(name, result[name])
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


def measure(name: str, rounds: int) -> dict[str, dict[str, float]]:
    systems = SYSTEMS[name]
    for run, _ in systems.values():
        run(0)
    fastest = dict.fromkeys(systems, math.inf)
    best: dict[str, list[float]] = {system: [] for system in systems}
    for seed in range(1, rounds + 1):
        for system, (run, _) in systems.items():
            began = time.process_time()
            best[system].append(run(seed))
            fastest[system] = min(fastest[system], time.process_time() - began)
    return {
        system: {
            "chain_steps_per_second": chains * STEPS / fastest[system],
            "mean_best_energy": float(np.mean(best[system])),
        }
        for system, (_, chains) in systems.items()
    }


def show(name: str, found: dict[str, dict[str, float]]) -> None:
    ours = found["64 vmapped chains"]
    print(f"\n| {name} | chain-steps per CPU second | ours is x | mean best energy |")
    print("|---|---|---|---|")
    for system, x in found.items():
        speed = x["chain_steps_per_second"]
        ratio = ours["chain_steps_per_second"] / speed
        energy = x["mean_best_energy"]
        print(f"| {system} | {speed:,.0f} | {ratio:.1f} | {energy:.3f} |")
    energies = [x["mean_best_energy"] for x in found.values()]
    if max(energies) > 1.5 * min(energies):
        print("THE SYSTEMS DO NOT FIND THE SAME ENERGIES")


# This library.


def rastrigin_problem() -> anneal.Problem:
    def energy(x):
        return 10 * DIMENSION + jnp.sum(x**2 - 10 * jnp.cos(2 * jnp.pi * x))

    def propose(key, x, temperature):
        return x + WIDTH * jax.random.normal(key, x.shape)

    def init(key):
        return jax.random.uniform(key, (DIMENSION,), minval=-BOX, maxval=BOX)

    return anneal.Problem(energy, propose, init)


def tsp_problem() -> anneal.Problem:
    distance = jnp.float32(DISTANCE.reshape(-1))

    def length(a, b):
        return distance[a.astype(jnp.int32) * CITIES + b]

    def energy(tour):
        return jnp.sum(length(tour, jnp.roll(tour, -1)))

    def draw(key, steps):
        pairs = CITIES * (CITIES - 1)
        drawn = (jax.random.uniform(key, (steps,)) * pairs).astype(jnp.int32)
        a, b = jnp.divmod(drawn, CITIES - 1)
        b = b + (b >= a)
        return jnp.minimum(a, b), jnp.maximum(a, b)

    def propose(ends, tour, temperature):
        return ends

    def apply(tour, move):
        first, last = move
        place = jnp.arange(CITIES)
        inside = (place >= first) & (place <= last)
        return tour[jnp.where(inside, first + last - place, place)]

    def delta(tour, move):
        first, last = move
        before, head = tour[first - 1], tour[first]
        tail, after = tour[last], tour[(last + 1) % CITIES]
        new = length(before, tail) + length(head, after)
        change = new - length(before, head) - length(tail, after)
        return jnp.where(last - first < CITIES - 1, change, 0)

    def init(key):
        # In bytes 64 tours are too small for XLA to cut their copy up among threads.
        return jax.random.permutation(key, CITIES).astype(jnp.uint8)

    return anneal.Problem(
        energy, propose, init, apply=apply, delta_energy=delta, draw=draw
    )


def vmapped(name: str, problem: anneal.Problem) -> Callable[[int], float]:
    schedule = anneal.exponential(*COOLING[name])

    @jax.jit
    def best(key):
        return anneal.anneal_problem(
            problem, schedule, key=key, steps=STEPS, chains=CHAINS
        ).best_energy

    return lambda seed: float(jnp.mean(best(jax.random.key(seed))))


def one_by_one(name: str, problem: anneal.Problem) -> Callable[[int], float]:
    schedule = anneal.exponential(*COOLING[name])

    @jax.jit
    def best(key):
        return anneal.anneal_problem(
            problem, schedule, key=key, steps=STEPS, chains=1
        ).best_energy[0]

    def run(seed: int) -> float:
        keys = jax.random.split(jax.random.key(seed), CHAINS)
        return float(np.mean([best(key) for key in keys]))

    return run


# Plain Python.


def rastrigin_python(seed: int) -> float:
    rng = random.Random(seed)
    gauss, uniform, cos, exp, turn = rng.gauss, rng.random, math.cos, math.exp, math.tau

    def energy(x):
        total = 10.0 * DIMENSION
        for v in x:
            total += v * v - 10.0 * cos(turn * v)
        return total

    initial, rate = COOLING["rastrigin"]
    x = [rng.uniform(-BOX, BOX) for _ in range(DIMENSION)]
    now = best = energy(x)
    for t in range(STEPS):
        temperature = initial * exp(-rate * t)
        other = [v + gauss(0.0, WIDTH) for v in x]
        found = energy(other)
        if found <= now or uniform() < exp((now - found) / temperature):
            x, now = other, found
            if now < best:
                best = now
    return best


def tsp_python(seed: int) -> float:
    rng = random.Random(seed)
    uniform, exp = rng.random, math.exp
    distance = DISTANCE.tolist()
    initial, rate = COOLING["tsp_50"]
    tour = list(range(CITIES))
    rng.shuffle(tour)
    now = best = sum(distance[tour[i - 1]][tour[i]] for i in range(CITIES))
    best_tour = tour
    for t in range(STEPS):
        temperature = initial * exp(-rate * t)
        first = int(uniform() * CITIES)
        last = int(uniform() * (CITIES - 1))
        last += last >= first
        if first > last:
            first, last = last, first
        if last - first == CITIES - 1:
            continue
        before, head = tour[first - 1], tour[first]
        tail, after = tour[last], tour[last + 1 - CITIES]
        from_before, to_after = distance[before], distance[after]
        new = from_before[tail] + to_after[head]
        change = new - from_before[head] - to_after[tail]
        if change <= 0 or uniform() < exp(-change / temperature):
            tour[first : last + 1] = tour[first : last + 1][::-1]
            now += change
            if now < best:
                best, best_tour = now, tour[:]
    return sum(distance[best_tour[i - 1]][best_tour[i]] for i in range(CITIES))


# NumPy.


def rastrigin_numpy(seed: int, chains: int | None = None) -> float:
    """Anneal one chain in vectors, or many in matrices."""
    rng = np.random.default_rng(seed)
    many = () if chains is None else (chains,)

    def energy(x):
        return 10 * DIMENSION + (x * x - 10 * np.cos(2 * np.pi * x)).sum(axis=-1)

    initial, rate = COOLING["rastrigin"]
    temperatures = initial * np.exp(-rate * np.arange(STEPS))
    moves = rng.normal(0.0, WIDTH, (STEPS, *many, DIMENSION))
    # Accepting where a uniform is below exp(-change / T), with the logarithm at once.
    rises = -np.log(rng.random((STEPS, *many)).T).T
    rises = (rises.T * temperatures).T
    x = rng.uniform(-BOX, BOX, (*many, DIMENSION))
    now = energy(x)
    best = now
    if chains is None:
        for move, rise in zip(moves, rises, strict=True):
            other = x + move
            found = energy(other)
            if found - now < rise:
                x, now = other, found
                if now < best:
                    best = now
        return float(best)
    for move, rise in zip(moves, rises, strict=True):
        other = x + move
        found = energy(other)
        taken = found - now < rise
        x = np.where(taken[:, None], other, x)
        now = np.where(taken, found, now)
        best = np.minimum(best, now)
    return float(best.mean())


def tsp_numpy(seed: int) -> float:
    rng = np.random.default_rng(seed)
    initial, rate = COOLING["tsp_50"]
    temperatures = initial * np.exp(-rate * np.arange(STEPS))
    rises = -np.log(rng.random(STEPS)) * temperatures
    firsts = rng.integers(0, CITIES, STEPS)
    lasts = rng.integers(0, CITIES - 1, STEPS)
    lasts += lasts >= firsts
    pieces = np.sort(np.stack([firsts, lasts], axis=1), axis=1).tolist()
    tour = rng.permutation(CITIES)
    now = best = DISTANCE[np.roll(tour, 1), tour].sum()
    best_tour = tour.copy()
    for (first, last), rise in zip(pieces, rises, strict=True):
        if last - first == CITIES - 1:
            continue
        before, head = tour[first - 1], tour[first]
        tail, after = tour[last], tour[last + 1 - CITIES]
        new = DISTANCE[before, tail] + DISTANCE[head, after]
        change = new - DISTANCE[before, head] - DISTANCE[tail, after]
        if change < rise:
            tour[first : last + 1] = tour[first : last + 1][::-1].copy()
            now += change
            if now < best:
                best, best_tour = now, tour.copy()
    return float(DISTANCE[np.roll(best_tour, 1), best_tour].sum())


def tsp_numpy_many(seed: int, chains: int = CHAINS) -> float:
    rng = np.random.default_rng(seed)
    initial, rate = COOLING["tsp_50"]
    temperatures = initial * np.exp(-rate * np.arange(STEPS))
    rises = -np.log(rng.random((STEPS, chains))) * temperatures[:, None]
    firsts = rng.integers(0, CITIES, (STEPS, chains))
    lasts = rng.integers(0, CITIES - 1, (STEPS, chains))
    lasts += lasts >= firsts
    pieces = np.sort(np.stack([firsts, lasts]), axis=0)
    row, place = np.arange(chains), np.arange(CITIES)
    tours = rng.permuted(np.tile(place, (chains, 1)), axis=1)

    def lengths(tours):
        return DISTANCE[np.roll(tours, 1, axis=1), tours].sum(axis=1)

    now = lengths(tours)
    best, best_tours = now.copy(), tours.copy()
    for first, last, rise in zip(*pieces, rises, strict=True):
        before, head = tours[row, first - 1], tours[row, first]
        tail, after = tours[row, last], tours[row, (last + 1) % CITIES]
        new = DISTANCE[before, tail] + DISTANCE[head, after]
        change = new - DISTANCE[before, head] - DISTANCE[tail, after]
        change = np.where(last - first < CITIES - 1, change, 0.0)
        taken = np.flatnonzero(change < rise)
        a, b = first[taken, None], last[taken, None]
        inside = (place >= a) & (place <= b)
        tours[taken] = tours[taken[:, None], np.where(inside, a + b - place, place)]
        now[taken] += change[taken]
        better = np.flatnonzero(now < best)
        best[better] = now[better]
        best_tours[better] = tours[better]
    return float(lengths(best_tours).mean())


SYSTEMS: dict[str, dict[str, tuple[Callable[[int], float], int]]] = {
    "rastrigin": {
        "64 vmapped chains": (vmapped("rastrigin", rastrigin_problem()), CHAINS),
        "64 chains in turn": (one_by_one("rastrigin", rastrigin_problem()), CHAINS),
        "plain Python": (rastrigin_python, 1),
        "NumPy, one chain": (rastrigin_numpy, 1),
        "NumPy, 64 chains": (lambda seed: rastrigin_numpy(seed, CHAINS), CHAINS),
    },
    "tsp_50": {
        "64 vmapped chains": (vmapped("tsp_50", tsp_problem()), CHAINS),
        "64 chains in turn": (one_by_one("tsp_50", tsp_problem()), CHAINS),
        "plain Python": (tsp_python, 1),
        "NumPy, one chain": (tsp_numpy, 1),
        "NumPy, 64 chains": (tsp_numpy_many, CHAINS),
    },
}


if __name__ == "__main__":
    main()
