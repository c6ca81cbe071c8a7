"""An adder and a majority are learned from their truth tables and printed as formulas.

python examples/neural_adder.py
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from simplex_jax import anneal, circuits

STEPS = 1000


def learn(name, inputs, answer):
    rows = np.array(list(itertools.product([0, 1], repeat=inputs)))
    y = jnp.asarray([answer(row) for row in rows], jnp.float32)
    cooling = anneal.exponential(1.0, 3 / STEPS)
    found = circuits.learn_circuit(
        jnp.asarray(rows, jnp.float32),
        y,
        (*[64] * 7, y.shape[1]),
        key=jax.random.key(0),
        temperatures=cooling.temperature(jnp.arange(STEPS)),
        straight_through_steps=300,
        restarts=10,
    )
    program = found.circuit.extract()
    small = circuits.prune(program, rows > 0)
    print(
        f"{name}: soft {found.accuracy.soft:.0%}, hard {found.accuracy.hard:.0%}, "
        f"{found.restarts} restarts, {len(program.gates)} gates, "
        f"{len(small.gates)} after pruning"
    )
    print(small.formula())


def add(row):
    total = 2 * row[0] + row[1] + 2 * row[2] + row[3]
    return [total >> place & 1 for place in (0, 1, 2)]


learn("2-bit adder, lowest bit first", 4, add)
learn("majority of 5", 5, lambda row: [row.sum() > 2])
