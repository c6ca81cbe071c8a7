"""Learned schedules against tuned fixed ones, on thirteen problems.

    python benchmarks/anneal.py [--quick] [--seed 0] [--only rastrigin,nas]
        [--hold accept_sharpness]
        [--json benchmarks/anneal.json] [--plot benchmarks/plots/anneal.png]

Exponential, linear, logarithmic and cosine cooling are tuned by
``anneal.search_schedule``: generations of candidates over several orders of magnitude.
The learnable schedule learns its ten numbers by the same search, once from an
exponential and once from nearly a straight line; the better one counts, and all of it
takes as many energies as tuning one fixed schedule. All accept by Metropolis' rule,
share proposals, steps and chains, and see the same tuning instances. They are judged on
held-out instances (where there is one instance: on held-out seeds), on the same random
numbers, by the mean of the best energies of all chains.

Intervals are of the mean difference over instances, 95 %, by bootstrap; the p-values of
sign flips are corrected as Holm says for all problems and baselines together. SciPy's
dual annealing is stopped at the same number of energies. The figures of a problem are
written as soon as they are there; problems that the file has are not run again.
"""

import argparse
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anneal_problems as problems
import jax
import jax.numpy as jnp
import numpy as np

from simplex_jax import anneal

HERE = Path(__file__).parent
# The mean best energy is all that counts.
META = anneal.MetaLoss(quality=1.0, efficiency=0.0, exploration=0.0, regularization=0.0)
BASELINES = ("exponential", "linear", "logarithmic", "cosine")
METHODS = (*BASELINES, "learned")
SCIPY = ("dual_annealing", "dual_annealing, no local search")
CANDIDATES = 128


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small budgets")
    parser.add_argument("--seed", type=int, default=0, help="of instances and runs")
    parser.add_argument("--only", default="", help="names of problems, with commas")
    parser.add_argument("--hold", default="", help="numbers that are not learned")
    parser.add_argument("--json", type=Path, default=HERE / "anneal.json")
    parser.add_argument("--plot", type=Path, default=HERE / "plots" / "anneal.png")
    args = parser.parse_args()
    if args.quick:
        args.json = args.json.with_stem(args.json.stem + "_quick")
        args.plot = args.plot.with_stem(args.plot.stem + "_quick")
    names = args.only.split(",") if args.only else list(problems.FAMILIES)

    for path in (args.json, args.plot):
        path.parent.mkdir(parents=True, exist_ok=True)
    setting = {"seed": args.seed, "quick": args.quick, "hold": args.hold}
    found = {"problems": {}, **setting}
    if args.json.exists():
        before = json.loads(args.json.read_text())
        if {k: before.get(k, "") for k in setting} == setting:
            found = before
    described = about(args)
    for name in names:
        if name not in found["problems"]:
            family = problems.FAMILIES[name](args.seed)
            held = tuple(args.hold.split(",")) if args.hold else ()
            found["problems"][name] = compare(family, args.seed, args.quick, held)
            found |= described
            args.json.write_text(json.dumps(found, indent=1) + "\n")
    rows = {name: found["problems"][name] for name in names}
    judged = judge(rows)
    print_tables(rows, judged)
    draw(rows, judged, args.plot)


def about(args: argparse.Namespace) -> dict:
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, cwd=HERE, capture_output=True, text=True, check=False)
    return {
        "command": f"python benchmarks/anneal.py --seed {args.seed}"
        + (" --quick" if args.quick else ""),
        "commit": commit.stdout.strip() or "unknown",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "jax": jax.__version__,
    }


# Tuning and learning, on the tuning instances.


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class OneOf:
    """One of several schedules: a single compiled chain serves them all."""

    which: Any
    options: tuple

    def temperature(self, step: Any, stagnation: Any) -> jax.Array:
        return self._chosen(lambda s: s.temperature(step, stagnation))

    def acceptance(self, delta: Any, temperature: Any) -> jax.Array:
        return self._chosen(lambda s: s.acceptance(delta, temperature))

    def _chosen(self, ask: Callable[[Any], jax.Array]) -> jax.Array:
        at = jnp.round(self.which)
        picked = [at == i for i in range(len(self.options))]
        return jnp.select(picked, [ask(s) for s in self.options])

    @property
    def schedule(self) -> Any:
        return self.options[round(float(self.which))]


def compare(
    family: problems.Family, seed: int, quick: bool, held: tuple[str, ...]
) -> dict:
    """Tune, learn and judge on one problem."""
    began = time.process_time()
    # Longer runs get fewer chains, so that every problem takes about as long.
    chains = 4 if quick else max(16, min(64, 64_000 // family.steps))
    generations = 4 if quick else 16
    key = jax.random.key(seed)
    scale = energy_scale(family, jax.random.fold_in(key, 0))
    ready = [ranges(name, scale, family.steps, held) for name in METHODS]
    options = tuple(middle for middle, _ in ready)
    still = tuple(jax.tree.map(jnp.zeros_like, s) for s in options)

    def search(i: int, middle: Any, generations: int) -> OneOf:
        spread = OneOf(jnp.float32(0), (*still[:i], ready[i][1], *still[i + 1 :]))
        return anneal.search_schedule(
            family.problem,
            OneOf(jnp.float32(i), (*options[:i], middle, *options[i + 1 :])),
            spread,
            key=jax.random.fold_in(key, 1),
            steps=family.steps,
            chains=chains,
            candidates=CANDIDATES,
            generations=generations,
            meta_loss=META,
        ).schedule

    fixed = enumerate(options[:-1])
    found = [search(i, middle, generations) for i, middle in fixed]
    # A generation's runs for each of two starts decide between them.
    starts = options[-1], straight(options[-1], family.steps)
    learned = [search(4, middle, generations // 2 - 1) for middle in starts]
    process = anneal.decided_process(
        family.problem, META, steps=family.steps, scale=scale
    )
    loss = jax.jit(
        lambda schedule: anneal.mean_loss(
            process,
            schedule,
            key=jax.random.fold_in(key, 2),
            steps=family.steps,
            chains=CANDIDATES * chains,
        )
    )
    found.append(min(learned, key=lambda schedule: float(loss(schedule))))

    best = evaluate(family, found, seed, quick)
    if family.plain is not None:
        for name in SCIPY:
            best[name] = dual_annealing(family, name == SCIPY[0], seed, quick)
    result = {
        "steps": family.steps,
        "optimum": family.optimum,
        "runs_to_tune": CANDIDATES * chains * generations,
        "schedules": {
            name: numbers(s.schedule) for name, s in zip(METHODS, found, strict=True)
        },
        "best_energy": best,
        "cpu_seconds": round(time.process_time() - began, 1),
    }
    means = {name: round(float(np.mean(x)), 4) for name, x in best.items()}
    print(family.name, means, f"{result['cpu_seconds']} s", flush=True)
    return result


def ranges(
    name: str, scale: float, steps: int, held: tuple[str, ...]
) -> tuple[Any, Any]:
    """Return the middle and the spread of the first generation.

    Temperatures begin at a tenth of what a first move changes, within a factor of 7 one
    standard deviation up or down, and end anywhere below.
    """
    hot = 0.1 * scale
    if name == "exponential":
        schedule = anneal.exponential(hot, 7 / steps)
        spread = {"initial": 2.0, "rate": 1.0}
    elif name == "linear":
        schedule = anneal.linear(hot, 0.01 * hot, steps)
        spread = {"initial": 2.0, "final": 3.0, "steps": 0.0}
    elif name == "cosine":
        schedule = anneal.cosine(hot, 0.01 * hot, steps)
        spread = {"initial": 2.0, "final": 3.0, "steps": 0.0}
    elif name == "logarithmic":
        schedule = anneal.logarithmic(hot)
        spread = {"scale": 3.0}
    else:
        schedule = anneal.LearnableSchedule.from_params(
            initial_temp=hot,
            cool_rate=7 / steps,
            min_temp=1e-4 * hot,
            reheat_threshold=0.1 * steps,
            reheat_intensity=0.01 * hot,
            reheat_decay=20 / steps,
            oscillation_freq=10 / steps,
            rule=anneal.metropolis,
        )
        spread = {
            "initial_temp": 2.0,
            "cool_rate": 1.0,
            "min_temp": 3.0,
            "reheat_threshold": 1.0,
            "reheat_intensity": 2.0,
            "reheat_decay": 1.5,
            "oscillation_amp": 0.5,
            "oscillation_freq": 1.5,
            "accept_threshold": hot,
            "accept_sharpness": 1.0,
        }
        spread |= dict.fromkeys(held, 0.0)
    return schedule, replace(
        schedule, free={k: jnp.float32(x) for k, x in spread.items()}
    )


def straight(schedule: anneal.LearnableSchedule, steps: int) -> Any:
    """Bend a schedule by cooling and oscillation to nearly a straight line to 0."""
    bent = anneal.LearnableSchedule.from_params(
        cool_rate=2.1 / steps, oscillation_amp=0.38, oscillation_freq=3.6 / steps
    )
    names = ("cool_rate", "oscillation_amp", "oscillation_freq")
    taken = {name: bent.free[name] for name in names}
    return replace(schedule, free=schedule.free | taken)


def energy_scale(family: problems.Family, key: Any) -> float:
    """Return the root mean square change of energy by hot moves from random starts."""
    hot = anneal.linear(1e6, 1e6, 1)
    run = anneal.anneal_problem(family.problem, hot, key=key, steps=8, chains=256)
    return float(jnp.sqrt(jnp.mean(jnp.diff(run.trace.energy, axis=1) ** 2)))


def numbers(schedule: Any) -> dict[str, float]:
    named = schedule.params if hasattr(schedule, "params") else schedule.values
    return {name: float(f"{float(x):.4g}") for name, x in named.items()}


# Judging, on the held-out instances.


def evaluate(
    family: problems.Family, schedules: list[Any], seed: int, quick: bool
) -> dict[str, list[float]]:
    """Return the mean best energy of every held-out instance under every schedule."""
    chains = 8 if quick else 256

    def one(schedule, at, key):
        problem = replace(family.problem, init=lambda key: family.start(key, at))
        return anneal.anneal_problem(
            problem, schedule, key=key, steps=family.steps, chains=chains
        ).best_energy

    at = jnp.arange(problems.TUNING, problems.INSTANCES)
    keys = jax.random.split(jax.random.key(seed + 500), len(at))
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *schedules)
    every = jax.vmap(jax.vmap(one, (None, 0, 0)), (0, None, None))
    best = np.asarray(jax.jit(every)(stacked, at, keys)).mean(axis=2)
    return {
        name: [float(x) for x in row] for name, row in zip(METHODS, best, strict=True)
    }


def dual_annealing(
    family: problems.Family, local: bool, seed: int, quick: bool
) -> list[float]:
    """Return the mean best energy of SciPy's runs on every held-out instance.

    A run ends with the last energy that is permitted, in the midst of local search too.
    """
    from scipy.optimize import dual_annealing

    assert family.plain is not None

    class Spent(Exception):
        pass

    def once(at: int, run: int) -> float:
        energy, box = family.plain(at)  # pyright: ignore[reportOptionalCall]
        best, used = np.inf, 0

        def counted(x):
            nonlocal best, used
            if used == family.steps:
                raise Spent
            used += 1
            value = energy(x)
            best = min(best, value)
            return value

        try:
            dual_annealing(
                counted,
                box,
                maxiter=family.steps,
                maxfun=family.steps,
                no_local_search=not local,
                rng=np.random.default_rng([seed, at, run]),
            )
        except Spent:
            pass
        return float(best)

    return [
        float(np.mean([once(at, run) for run in range(1 if quick else 2)]))
        for at in range(problems.TUNING, problems.INSTANCES)
    ]


def judge(rows: dict[str, dict]) -> dict[str, dict[str, dict[str, float]]]:
    """Return difference, interval and corrected p-value of every problem and rival."""
    rng = np.random.default_rng(0)
    judged = {}
    for problem, row in rows.items():
        best = {name: np.array(x) for name, x in row["best_energy"].items()}
        judged[problem] = {}
        for name in (*BASELINES, *(x for x in SCIPY if x in best)):
            difference = best["learned"] - best[name]
            judged[problem][name] = paired(difference, rng)
    # SciPy's annealer is no schedule: it stands beside, outside of the correction.
    raw = [(judged[p][b]["p"], p, b) for p in judged for b in BASELINES]
    highest = 0.0
    for i, (p, problem, name) in enumerate(sorted(raw)):
        highest = max(highest, min(1.0, p * (len(raw) - i)))
        judged[problem][name]["p_holm"] = highest
    return judged


def paired(difference: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    """Return the mean difference, its interval by bootstrap, its p by sign flips."""
    n, draws = len(difference), 20_000
    mean = float(difference.mean())
    chosen = difference[rng.integers(0, n, (draws, n))].mean(axis=1)
    low, high = np.quantile(chosen, (0.025, 0.975))
    signs = rng.choice([-1.0, 1.0], (draws, n))
    # A difference that flips leave as it is up to rounding counts as reached.
    reached = np.abs(signs @ difference) / n >= abs(mean) * (1 - 1e-9)
    p = (1 + int(reached.sum())) / (1 + draws)
    return {"mean": mean, "low": float(low), "high": float(high), "p": p}


def verdict(judged: dict[str, dict[str, float]], name: str) -> str:
    if judged[name]["p_holm"] >= 0.05:
        return "even"
    return "better" if judged[name]["mean"] < 0 else "worse"


def print_tables(rows: dict, judged: dict) -> None:
    columns = (*METHODS, *SCIPY)
    print("\n| mean best energy | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for problem, row in rows.items():
        best = row["best_energy"]
        cells = [f"{np.mean(best[c]):.5g}" if c in best else "" for c in columns]
        print(f"| {problem} | " + " | ".join(cells) + " |")

    print("\n| learned minus | " + " | ".join(BASELINES) + " | learned is |")
    print("|---" * (len(BASELINES) + 2) + "|")
    counts = {"every": 0, "best": 0, "worse": 0}
    for problem, row in rows.items():
        cells, verdicts = [], {}
        for name in BASELINES:
            x = judged[problem][name]
            verdicts[name] = verdict(judged[problem], name)
            mark = {"better": "*", "worse": "!", "even": ""}[verdicts[name]]
            cells.append(f"{x['mean']:.3g} ({x['low']:.3g} to {x['high']:.3g}){mark}")
        strongest = min(BASELINES, key=lambda b: np.mean(row["best_energy"][b]))
        every = all(x == "better" for x in verdicts.values())
        worse = [name for name, x in verdicts.items() if x == "worse"]
        counts["every"] += every
        counts["best"] += verdicts[strongest] == "better"
        counts["worse"] += bool(worse)
        text = "better than every" if every else f"{verdicts[strongest]} with the best"
        text = f"worse than {', '.join(worse)}" if worse else text
        print(f"| {problem} | " + " | ".join(cells) + f" | {text} |")
    print(
        f"\n* better, ! worse: p < 0.05 after Holm's correction for "
        f"{len(rows) * len(BASELINES)} comparisons. Of {len(rows)} problems learned is "
        f"better than every tuned schedule on {counts['every']}, better than the best "
        f"tuned one on {counts['best']}, worse than any on {counts['worse']}."
    )


def draw(rows: dict, judged: dict, path: Path) -> None:
    """Draw learned minus each baseline, in standard deviations over instances."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.45 * len(rows) + 1.6), layout="constrained")
    axis = figure.subplots()
    for i, name in enumerate(BASELINES):
        middle, reach = [], [[], []]
        for problem, row in rows.items():
            x = judged[problem][name]
            unit = np.std(row["best_energy"][name]) or 1.0
            middle.append(x["mean"] / unit)
            reach[0].append((x["mean"] - x["low"]) / unit)
            reach[1].append((x["high"] - x["mean"]) / unit)
        heights = np.arange(len(rows)) + 0.18 * (i - 1.5)
        axis.errorbar(middle, heights, xerr=reach, fmt="osDv"[i], ms=4, label=name)
    axis.axvline(0, color="gray", lw=1)
    axis.set_xscale("symlog", linthresh=0.5)
    axis.set_yticks(range(len(rows)), list(rows))
    axis.invert_yaxis()
    axis.set_title("Best energy, learned minus tuned: left of 0, learned is better")
    axis.set_xlabel("standard deviations over held-out instances; intervals of 95 %")
    axis.legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
