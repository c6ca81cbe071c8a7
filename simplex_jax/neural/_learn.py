"""Circuits learned from examples: soft, noisy and warm first, cold at last."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float

from .._typing import PRNGKey
from ._circuit import LogicCircuit, gates_of, set_gates
from ._mend import mend
from ._mode import Mode


@dataclass(frozen=True)
class Learned:
    """A circuit and how well it does.

    Attributes:
        circuit: the best of all restarts, by hard accuracy.
        soft_accuracy: share of rows with every output on the right side of 1/2.
        hard_accuracy: the same in ``Mode.HARD``, that of the extracted program.
        restarts: how many fresh circuits were tried after the first.
        tries: discrete changes that were tried to mend the best circuit; 0 where
            training alone was enough.
        losses: (steps,), of the best circuit's training.
    """

    circuit: LogicCircuit
    soft_accuracy: float
    hard_accuracy: float
    restarts: int
    tries: int
    losses: Float[Array, "steps"]


def learn_circuit(
    x: Float[Array, "B I"],
    y: Float[Array, "B O"],
    layers: Sequence[int],
    *,
    key: PRNGKey,
    steps: int = 600,
    restarts: int = 31,
    learning_rate: float = 0.1,
    temperatures: tuple[float, float] = (1.0, 0.1),
    noise: float = 0.2,
    tries: int = 100_000,
) -> Learned:
    r"""Learn a circuit, from a fresh start until the hard one is right on all rows.

    Minimises the binary cross-entropy of the soft outputs with Adam, the temperature
    falling geometrically. Each step adds Gaussian noise of ``noise`` $T$ to all
    parameters, so gates change their minds while it is warm. Where the hard circuit is
    then wrong on some rows, random changes of single gates are tried, and kept where no
    more outputs are wrong.

    Args:
        x: inputs, 0 or 1.
        y: outputs, 0 or 1.
        layers: gates a layer; the last has O.
        key: of the starts and the noise.
        steps: a start.
        restarts: at most this many, while a row is wrong.
        learning_rate: Adam's.
        temperatures: the first and the last.
        noise: deviation in units of the temperature.
        tries: discrete changes a start, at most; 0 for training alone.

    Returns:
        The best circuit, its accuracies, and the restarts used.

    Raises:
        ValueError: for layers whose last has not O gates, temperatures that are not
            positive, or less than one step.
    """
    if layers[-1] != y.shape[-1]:
        raise ValueError(
            f"layers ends with {layers[-1]}; y has {y.shape[-1]} outputs a row"
        )
    if min(temperatures) <= 0:
        raise ValueError(f"temperatures is {temperatures}; give two above 0")
    if steps < 1:
        raise ValueError(f"steps is {steps}; give at least 1")
    optimizer = optax.adam(learning_rate)
    best = None
    for restart in range(restarts + 1):
        start, noise_key = jax.random.split(jax.random.fold_in(key, restart))
        graph, state = nnx.split(
            LogicCircuit(x.shape[-1], layers, rngs=nnx.Rngs(start))
        )
        state, losses = _anneal(
            graph, optimizer, steps, state, x, y, noise_key, temperatures, noise
        )
        circuit = nnx.merge(graph, state)
        gates, tried = mend(
            circuit.inputs,
            layers,
            gates_of(circuit),
            np.asarray(x > 0.5),
            np.asarray(y > 0.5),
            np.random.default_rng([int(n) for n in jax.random.key_data(noise_key)]),
            tries,
        )
        if tried:
            set_gates(circuit, gates)
        hard = _accuracy(circuit(x, mode=Mode.HARD), y)
        if best is None or hard > best.hard_accuracy:
            soft = _accuracy(circuit(x, temperature=temperatures[1]), y)
            best = Learned(circuit, soft, hard, restart, tried, losses)
        if hard == 1:
            return best
    assert best is not None
    return replace(best, restarts=restarts)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _anneal(
    graph: Any,
    optimizer: optax.GradientTransformation,
    steps: int,
    state: Any,
    x: Any,
    y: Any,
    key: Any,
    temperatures: Any,
    noise: Any,
) -> Any:
    """Return the trained state and the losses of all steps."""
    first, last = temperatures

    def loss(state: Any, temperature: Any) -> Any:
        out = nnx.merge(graph, state)(x, temperature=temperature)
        # A gate that is sure and wrong must not outweigh all others.
        out = jnp.clip(out, 1e-3, 1 - 1e-3)
        return -jnp.mean(y * jnp.log(out) + (1 - y) * jnp.log1p(-out))

    def step(carry: Any, i: Any) -> Any:
        state, moments = carry
        temperature = first * (last / first) ** (i / steps)
        value, slope = jax.value_and_grad(loss)(state, temperature)
        updates, moments = optimizer.update(slope, moments, state)
        leaves, tree = jax.tree.flatten(optax.apply_updates(state, updates))
        keys = jax.random.split(jax.random.fold_in(key, i), len(leaves))
        leaves = [
            leaf + noise * temperature * jax.random.normal(k, leaf.shape, leaf.dtype)
            for leaf, k in zip(leaves, keys, strict=True)
        ]
        return (jax.tree.unflatten(tree, leaves), moments), value

    start = (state, optimizer.init(state))
    (state, _), losses = jax.lax.scan(step, start, jnp.arange(steps))
    return state, losses


def _accuracy(out: Float[Array, "B O"], y: Float[Array, "B O"]) -> float:
    return float(jnp.mean(((out > 0.5) == (y > 0.5)).all(-1)))
