"""MONK's three problems are learned from a part of their rows and tested on all 432.

python examples/neural_monk.py (a minute)

A robot has six attributes; the rules are MONK-1: the first two are equal or the fifth
has its first value; MONK-2: exactly two have their first value; MONK-3: the fifth has
its third value and the fourth its first, or the fifth has not its fourth and the second
not its third, with 5 % of the labels turned over.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from simplex_jax import anneal, circuits

VALUES, STEPS, LAST = (3, 3, 2, 3, 4, 2), 400, 0.3
a = np.array(list(itertools.product(*[range(1, v + 1) for v in VALUES])))
bits = np.concatenate([np.eye(v)[a[:, i] - 1] for i, v in enumerate(VALUES)], axis=1)
x = jnp.asarray(bits, jnp.float32)
rules = {
    "MONK-1": (a[:, 0] == a[:, 1]) | (a[:, 4] == 1),
    "MONK-2": (a == 1).sum(axis=1) == 2,
    "MONK-3": ((a[:, 4] == 3) & (a[:, 3] == 1)) | ((a[:, 4] != 4) & (a[:, 1] != 3)),
}
cooling = anneal.exponential(1.0, -np.log(LAST) / (STEPS - 1))


def learn(seen, labels, setting, starts):
    """Return one program with the votes of the circuits of several starts."""
    tau, weight_decay = setting
    found = [
        circuits.learn_circuit(
            x[seen],
            jnp.asarray(labels, jnp.int32),
            (64,) * 8,
            key=jax.random.key(start),
            temperatures=cooling.temperature(jnp.arange(STEPS)),
            readout=circuits.GroupSum(classes=2, tau=tau),
            learning_rate=0.1,
            weight_decay=weight_decay,
            record_every=STEPS,
        )
        for start in range(starts)
    ]
    return circuits.committee([one.circuit.extract() for one in found], classes=2)


def accuracy(program, rows, labels):
    """Return the share of rows that get most votes for their label."""
    no, yes = program(bits[rows].T > 0).reshape(2, -1, len(rows)).sum(axis=1)
    return ((yes > no) == labels).mean()


for (name, truth), rows in zip(rules.items(), (124, 169, 122), strict=True):
    rng = np.random.default_rng(0)
    seen = rng.permutation(len(a))[:rows]
    labels = truth[seen].copy()
    if name == "MONK-3":
        labels[rng.permutation(rows)[: round(0.05 * rows)]] ^= True
    # Noisy labels call for many gates that are half sure, the others for few that are,
    # and for no more than they need. A third of the rows that are seen decides.
    kept = rows * 2 // 3
    held_out = {
        setting: accuracy(
            learn(seen[:kept], labels[:kept], setting, 3), seen[kept:], labels[kept:]
        )
        for setting in ((3.0, 0.05), (16.0, 0.0))
    }
    setting = max(held_out, key=lambda setting: (held_out[setting], setting))
    program = learn(seen, labels, setting, 6)
    hard, gates = accuracy(program, np.arange(len(a)), truth), len(program.gates)
    print(f"{name}: tau {setting[0]:g}, on all 432 hard {hard:.1%}, {gates} gates")
