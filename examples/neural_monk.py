"""MONK's three problems are learned from a part of their rows and tested on all 432.

python examples/neural_monk.py

A robot has six attributes; the rules are MONK-1: the first two are equal or the fifth
has its first value; MONK-2: exactly two have their first value; MONK-3: the fifth has
its third value and the fourth its first, or the fifth has not its fourth and the second
not its third, with 5 % of the labels turned over.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from simplex_jax import anneal, neural

VALUES, STEPS, LAST = (3, 3, 2, 3, 4, 2), 400, 0.3
a = np.array(list(itertools.product(*[range(1, v + 1) for v in VALUES])))
bits = np.concatenate([np.eye(v)[a[:, i] - 1] for i, v in enumerate(VALUES)], axis=1)
x = jnp.asarray(bits, jnp.float32)
rules = {
    "MONK-1": (a[:, 0] == a[:, 1]) | (a[:, 4] == 1),
    "MONK-2": (a == 1).sum(axis=1) == 2,
    "MONK-3": ((a[:, 4] == 3) & (a[:, 3] == 1)) | ((a[:, 4] != 4) & (a[:, 1] != 3)),
}
cooling = anneal.exponential(1.0, -np.log(LAST) / STEPS)
# Noisy labels call for many gates that are half sure, the others for few that are.
for (name, truth), rows, tau in zip(
    rules.items(), (124, 169, 122), (3.0, 3.0, 16.0), strict=True
):
    rng = np.random.default_rng(0)
    seen = rng.permutation(len(a))[:rows]
    labels = truth[seen].copy()
    if name == "MONK-3":
        labels[: round(0.05 * rows)] ^= True
    readout = neural.GroupSum(classes=2, tau=tau)
    found = neural.learn_circuit(
        x[seen],
        jnp.asarray(labels, jnp.int32),
        (64,) * 6,
        key=jax.random.key(0),
        temperatures=cooling.temperature(jnp.arange(STEPS)),
        readout=readout,
    )
    soft, hard = neural.circuit_accuracy(
        found.circuit,
        x,
        jnp.asarray(truth, jnp.int32),
        temperature=LAST,
        readout=readout,
    )
    gates = len(found.circuit.extract().gates)
    print(f"{name}: on all 432 soft {soft:.1%}, hard {hard:.1%}, {gates} gates")
