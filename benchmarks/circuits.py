"""Circuits that learn by gradients: truth tables, MONK's problems, handwritten digits.

    python benchmarks/circuits.py [--part tables|monk|digits] [--seeds N] [--json FILE]

- tables: 2-bit adder, majority of 5, parity of 6, all rows known: restarts until the
  hard circuit is right on every row; the same number of untrained circuits beside it;
- monk: seeded splits of 124, 169 and 122 rows, 5 % of MONK-3's labels turned over,
  tested on all 432; the circuits of eight starts vote, and the read-out's tau and the
  weight decay are chosen by cross-validation in the split's own rows;
- digits: scikit-learn's, a thermometer of three thresholds, one split for all seeds;
  then the extracted program in C and in NumPy, from bytes to classes.

Seconds are the process's, of all its threads. Soft accuracy is that of the circuit at
the last temperature, hard accuracy that of the extracted program.
"""

import argparse
import ctypes
import itertools
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from simplex_jax import anneal, circuits, neural

TABLES = {
    "adder": (
        4,
        lambda r: [(2 * r[0] + r[1] + 2 * r[2] + r[3]) >> i & 1 for i in (0, 1, 2)],
    ),
    "majority-5": (5, lambda r: [int(sum(r) > 2)]),
    "parity-6": (6, lambda r: [sum(r) % 2]),
}


def cooling(steps, last):
    """Return temperatures from 1 to the last."""
    schedule = anneal.exponential(1.0, -np.log(last) / (steps - 1))
    return schedule.temperature(jnp.arange(steps))


def spent(start):
    return time.process_time() - start


def mean_error(values):
    """Return mean and standard error."""
    values = np.asarray(values, float)
    return float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5)


def tables(seeds):
    for name, (inputs, f) in TABLES.items():
        rows = np.array(list(itertools.product([0, 1], repeat=inputs)))
        x = jnp.asarray(rows, jnp.float32)
        y = jnp.asarray([f(row) for row in rows], jnp.float32)
        layers = (*[64] * 7, y.shape[1])
        found, untrained, pruned = [], [], []
        start = time.process_time()
        for seed in range(seeds):
            key = jax.random.key(seed)
            found.append(
                circuits.learn_circuit(
                    x,
                    y,
                    layers,
                    key=key,
                    temperatures=cooling(1000, 0.05),
                    straight_through_steps=300,
                    restarts=30,
                    record_every=700,
                )
            )
            pruned.append(circuits.prune(found[-1].circuit.extract(), rows > 0))
        seconds = spent(start) / seeds
        # A rate of 0 leaves the same starts as they are.
        for seed, one in enumerate(found):
            untrained.append(
                circuits.learn_circuit(
                    x,
                    y,
                    layers,
                    key=jax.random.key(seed),
                    temperatures=jnp.ones(1),
                    learning_rate=0.0,
                    restarts=one.restarts,
                ).accuracy.hard
            )
        yield {
            "task": name,
            "seeds at 100 % hard": sum(one.accuracy.hard == 1 for one in found),
            "at 100 % soft": sum(one.accuracy.soft == 1 for one in found),
            "of": seeds,
            "restarts": [one.restarts for one in found],
            "untrained starts at 100 %": sum(hard == 1 for hard in untrained),
            "untrained best": max(untrained),
            "gates": sum(layers),
            "gates simplified": [len(one.circuit.extract().gates) for one in found],
            "gates pruned": [len(one.gates) for one in pruned],
            "seconds a seed": seconds,
        }


VALUES = (3, 3, 2, 3, 4, 2)
ROBOTS = np.array(list(itertools.product(*[range(1, v + 1) for v in VALUES])))
ROBOT_BITS = np.concatenate(
    [np.eye(v)[ROBOTS[:, i] - 1] for i, v in enumerate(VALUES)], 1
)
MONK = {
    "MONK-1": (124, (ROBOTS[:, 0] == ROBOTS[:, 1]) | (ROBOTS[:, 4] == 1)),
    "MONK-2": (169, (ROBOTS == 1).sum(1) == 2),
    "MONK-3": (
        122,
        ((ROBOTS[:, 4] == 3) & (ROBOTS[:, 3] == 1))
        | ((ROBOTS[:, 4] != 4) & (ROBOTS[:, 1] != 3)),
    ),
}
MONK_BITS = jnp.asarray(ROBOT_BITS, jnp.float32)
MONK_LAYERS, MONK_STEPS, MONK_LAST = (64,) * 8, 400, 0.3
# The read-out's tau and the weight decay, from exact to smooth.
SETTINGS, FOLDS, FOLD_STARTS, STARTS = ((3.0, 0.05), (16.0, 0.0)), 3, 3, 8


def monk_learn(rows, labels, setting, seed, starts):
    """Return what is learned from each start."""
    tau, weight_decay = setting
    return [
        circuits.learn_circuit(
            MONK_BITS[rows],
            jnp.asarray(labels, jnp.int32),
            MONK_LAYERS,
            key=jax.random.fold_in(jax.random.key(seed), start),
            temperatures=cooling(MONK_STEPS, MONK_LAST),
            readout=circuits.GroupSum(2, tau),
            learning_rate=0.1,
            weight_decay=weight_decay,
            record_every=MONK_STEPS,
        )
        for start in range(starts)
    ]


def committee(found):
    return circuits.committee([one.circuit.extract() for one in found], classes=2)


def monk_accuracy(program, rows, labels):
    votes = program(ROBOT_BITS[rows].T > 0).reshape(2, -1, len(rows)).sum(1)
    return float((votes.argmax(0) == labels).mean())


def monk_split(seed, i, name, count, truth):
    rng = np.random.default_rng([seed, i])
    rows = rng.permutation(len(ROBOTS))[:count]
    labels = truth[rows].copy()
    if name == "MONK-3":
        labels[rng.permutation(count)[: round(0.05 * count)]] ^= True
    return rows, labels


def monk_setting(rows, labels):
    """Return the smoothest setting within a standard error of the best, by folds."""
    size, right = len(rows) // FOLDS, [0.0] * len(SETTINGS)
    for (i, setting), fold in itertools.product(enumerate(SETTINGS), range(FOLDS)):
        held = np.arange(fold * size, (fold + 1) * size)
        kept = np.setdiff1d(np.arange(size * FOLDS), held)
        found = monk_learn(rows[kept], labels[kept], setting, fold, FOLD_STARTS)
        right[i] += monk_accuracy(committee(found), rows[held], labels[held]) / FOLDS
    print("cross-validation", right, flush=True)
    best = max(right)
    error = (best * (1 - best) / (size * FOLDS)) ** 0.5
    good = [s for s, r in zip(SETTINGS, right, strict=True) if r >= best - error - 1e-9]
    return good[-1]


def monk(seeds):
    everything, readout = np.arange(len(ROBOTS)), circuits.GroupSum(2, 1.0)
    for i, (name, (count, truth)) in enumerate(MONK.items()):
        runs, start = [], time.process_time()
        for seed in range(seeds):
            rows, labels = monk_split(seed, i, name, count, truth)
            setting = monk_setting(rows, labels)
            found = monk_learn(rows, labels, setting, seed, STARTS)
            program = committee(found)
            soft = np.sum(
                [
                    readout.votes(one.circuit(MONK_BITS, temperature=MONK_LAST))
                    for one in found
                ],
                axis=0,
            )
            single = float(
                np.mean(
                    [
                        monk_accuracy(committee([one]), everything, truth)
                        for one in found
                    ]
                )
            )
            runs.append(
                (
                    monk_accuracy(program, everything, truth),
                    float((soft.argmax(-1) == truth).mean()),
                    single,
                    monk_accuracy(program, rows, labels),
                    setting,
                    len(program.gates),
                )
            )
            print(name, seed, runs[-1], flush=True)
        hard, soft, single, train, setting, gates = zip(*runs, strict=True)
        yield {
            "task": name,
            "hard %, mean and standard error": mean_error(100 * np.array(hard)),
            "hard": hard,
            "soft %": mean_error(100 * np.array(soft)),
            "one circuit alone, hard %": mean_error(100 * np.array(single)),
            "train hard": train,
            "tau and weight decay": setting,
            "gates": sum(MONK_LAYERS) * len(found),
            "gates simplified": gates,
            "seconds a seed": spent(start) / seeds,
        }


THRESHOLDS = (2, 6, 11)
DIGITS_LAYERS, DIGITS_STEPS, DIGITS_LAST = (2000, 2000, 2000), 800, 0.3


def thermometer(x):
    bits = (x[..., None] >= np.array(THRESHOLDS)).reshape(len(x), -1)
    return jnp.asarray(bits, jnp.float32)


def shifted(x):
    """Return images and their averages with themselves, moved by a pixel four ways."""
    images = np.pad(x.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)))
    moved = [
        images[:, 1 + dy : 9 + dy, 1 + dx : 9 + dx].reshape(len(x), 64)
        for dy, dx in ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))
    ]
    return np.concatenate([(x + other) / 2 for other in moved])


def digits_learn(x, y, seed):
    return circuits.learn_circuit(
        thermometer(shifted(x)),
        jnp.asarray(np.tile(y, 5), jnp.int32),
        DIGITS_LAYERS,
        key=jax.random.key(seed),
        temperatures=cooling(DIGITS_STEPS, DIGITS_LAST),
        readout=circuits.GroupSum(10, 10.0),
        fan_in=4,
        learning_rate=0.1,
        batch_size=128,
        record_every=DIGITS_STEPS,
    )


def digits(seeds):
    x, y = load_digits(return_X_y=True)
    x, held_x, y, held_y = train_test_split(
        x, y, test_size=360, random_state=0, stratify=y
    )
    runs = []
    for seed in range(seeds):
        wall, start = time.perf_counter(), time.process_time()
        found = digits_learn(x, y, seed)
        seconds, wall = spent(start), time.perf_counter() - wall
        soft, hard = circuits.circuit_accuracy(
            found.circuit,
            thermometer(held_x),
            jnp.asarray(held_y, jnp.int32),
            temperature=DIGITS_LAST,
            readout=circuits.GroupSum(10, 10.0),
        )
        classifier = circuits.Classifier(found.circuit.extract(), THRESHOLDS, 10)
        runs.append((hard, soft, found.accuracy.hard, seconds, wall))
        print("digits", seed, runs[-1], len(classifier.program.gates), flush=True)
        if seed == 0:
            yield exported(found.circuit, classifier, held_x.astype(np.uint8))
    hard, soft, train, seconds, wall = zip(*runs, strict=True)
    yield {
        "task": "digits",
        "hard %, mean and standard error": mean_error(100 * np.array(hard)),
        "hard": hard,
        "soft": soft,
        "largest gap, points": 100 * max(abs(np.array(soft) - np.array(hard))),
        "train hard": train,
        "gates": sum(DIGITS_LAYERS),
        "gates simplified": len(classifier.program.gates),
        "training, CPU seconds": seconds,
        "training, wall seconds": wall,
    }


def exported(circuit, classifier, x):
    """Return the speed of a program from bytes to classes, and whether it is equal."""
    bits = jnp.asarray(classifier.thermometer(x), jnp.float32)
    votes = circuits.GroupSum(10, 1.0).votes(circuit(bits, mode=neural.Mode.HARD))
    wanted = np.asarray(votes.argmax(-1))
    many = np.ascontiguousarray(np.resize(x, (256 * 1024, 64)))
    start = time.process_time()
    in_numpy = classifier(many)
    row = {
        "task": "exported program",
        "NumPy equal": bool((in_numpy == np.resize(wanted, len(many))).all()),
        "NumPy, samples a CPU second": len(many) / spent(start),
    }
    if shutil.which("cc") is None:
        return row
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "digits.c", Path(folder) / "digits.so"
        source.write_text(classifier.to_c())
        flags = ["-std=c99", "-O3", "-march=native", "-shared", "-fPIC"]
        subprocess.run(["cc", *flags, str(source), "-o", str(library)], check=True)
        run = ctypes.CDLL(str(library)).classify
    octets = np.ctypeslib.ndpointer(np.uint8, flags="C")
    run.argtypes, run.restype = [octets, octets, ctypes.c_size_t], None
    y, seconds = np.zeros(len(many), np.uint8), []
    for _ in range(5):
        start = time.process_time()
        run(many, y, len(many))
        seconds.append(spent(start))
    row["C equal"] = bool((y == np.resize(wanted, len(many))).all())
    row["C, samples a CPU second"] = len(many) / min(seconds)
    return row


PARTS = {"tables": (tables, 10), "monk": (monk, 5), "digits": (digits, 5)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    for part in [args.part] if args.part else PARTS:
        run, seeds = PARTS[part]
        for row in run(args.seeds or seeds):
            print(*(f"{k}: {v}" for k, v in row.items()), sep="\n  ", flush=True)
            rows.append(row)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
