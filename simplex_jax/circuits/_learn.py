"""Circuits learned by gradients: soft and warm first, cold and hard at last."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Shaped

from .._checks import at_least, refuse
from .._typing import PRNGKey
from ..neural import Mode
from ._circuit import LogicCircuit
from ._readout import Bits, Readout


class Accuracy(NamedTuple):
    """Shares of rows answered right.

    Attributes:
        soft: by the soft circuit at its temperature.
        hard: in ``Mode.HARD``, which is the extracted program's.
    """

    soft: float
    hard: float


class Record(NamedTuple):
    """A look at training.

    Attributes:
        restart: which start, from 0.
        step: steps taken.
        temperature: of the last of them.
        loss: mean since the last record, nats.
        accuracy: on all rows.
    """

    restart: int
    step: int
    temperature: float
    loss: float
    accuracy: Accuracy


@dataclass(frozen=True)
class Learned:
    """A circuit and how it came about.

    Attributes:
        circuit: of all starts the first with the best hard accuracy.
        accuracy: of the rows it learned from.
        restarts: how many starts were made after the first.
        history: records of all starts.
    """

    circuit: LogicCircuit
    accuracy: Accuracy
    restarts: int
    history: tuple[Record, ...]


def circuit_accuracy(
    circuit: LogicCircuit,
    x: Float[Array, "B I"],
    y: Shaped[Array, "B ..."],
    *,
    temperature: Float[ArrayLike, ""],
    readout: Readout = Bits(),  # noqa: B008
) -> Accuracy:
    """Return the shares of rows that a circuit answers right.

    Args:
        circuit: what answers.
        x: inputs, 0 or 1.
        y: answers, as the read-out takes them.
        temperature: of the soft circuit.
        readout: what the outputs mean.

    Returns:
        Soft and hard accuracy, in [0, 1].
    """
    graph, state = nnx.split(circuit)
    soft, hard = _accuracy(graph, readout, state, x, y, temperature)
    return Accuracy(float(soft), float(hard))


def learn_circuit(
    x: Float[Array, "B I"],
    y: Shaped[Array, "B ..."],
    layers: Sequence[int],
    *,
    key: PRNGKey,
    temperatures: Float[Array, "steps"],
    readout: Readout = Bits(),  # noqa: B008
    fan_in: int = 8,
    learning_rate: float = 0.05,
    weight_decay: float = 0.0,
    batch_size: int | None = None,
    straight_through_steps: int = 0,
    restarts: int = 0,
    record_every: int = 100,
    progress: Callable[[Record], None] | None = None,
) -> Learned:
    """Learn a circuit by gradients, from a fresh start until the hard one is right.

        >>> x = jnp.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
        >>> y = jnp.array([[0.0], [1], [1], [0]])
        >>> cooling = 0.05 ** jnp.linspace(0, 1, 300)
        >>> key = jax.random.key(0)
        >>> found = circuits.learn_circuit(x, y, (16, 1), key=key, temperatures=cooling)

    Minimises the mean of the read-out's loss with Adam, at one temperature a step. No
    gate changes but by its gradients. A start whose hard circuit is wrong on a row of x
    is followed by another one, all of whose random numbers are new.

    Args:
        x: inputs, 0 or 1.
        y: answers, as the read-out takes them.
        layers: gates a layer.
        key: of starts and batches.
        temperatures: T > 0, one a step: ``schedule.temperature(jnp.arange(steps), 0)``
            of an ``anneal`` schedule; 1 is warm, and at 0.1 soft is nearly hard.
        readout: what the outputs mean, ``Bits()`` or ``GroupSum(...)``.
        fan_in: candidates a pin, see ``LogicCircuit``.
        learning_rate: Adam's.
        weight_decay: share of the learning rate by which every logit shrinks a step,
            as AdamW does it: what no row asks for comes undone. Of few rows with right
            labels, circuits learned with 0.03 to 0.1 were right on more new rows; with
            noisy labels on fewer.
        batch_size: rows a step, each epoch in a new order; all rows where it is None.
        straight_through_steps: how many of the last steps run the hard circuit, with
            the soft one's derivative.
        restarts: at most this many.
        record_every: steps from record to record.
        progress: called with each record.

    Returns:
        The circuit, its accuracies on x, the restarts used, and the records.

    Raises:
        ValueError: for temperatures that are empty or not positive, a batch size
            outside [1, B], straight-through steps outside [0, steps], a negative weight
            decay, or less than 0 restarts or 1 step a record.

    Source: Simplex's training of gates; deviation: restarts are counted, and both
    accuracies reported.
    """
    steps, rows = len(temperatures), len(x)
    size = rows if batch_size is None else batch_size
    if steps < 1 or not bool((temperatures > 0).all()):
        refuse("temperatures", temperatures, "give numbers above 0")
    if not 1 <= size <= rows:
        refuse("batch_size", size, f"give 1 to {rows}, the rows of x")
    if not 0 <= straight_through_steps <= steps:
        refuse("straight_through_steps", straight_through_steps, f"give 0 to {steps}")
    at_least("weight_decay", weight_decay, 0)
    at_least("restarts", restarts, 0)
    at_least("record_every", record_every)
    soft_steps = steps - straight_through_steps
    phases = [
        (Mode.SOFT, range(0, soft_steps, record_every), soft_steps),
        (Mode.STRAIGHT_THROUGH, range(soft_steps, steps, record_every), steps),
    ]
    history: list[Record] = []
    best = None
    for restart in range(restarts + 1):
        start, order = jax.random.split(jax.random.fold_in(key, restart))
        circuit = LogicCircuit(x.shape[-1], layers, fan_in=fan_in, rngs=nnx.Rngs(start))
        graph, params, rest = nnx.split(circuit, nnx.Param, ...)
        moments = optax.scale_by_adam().init(params)
        batches = _batches(order, rows, size, steps)
        for mode, starts, end in phases:
            for first in starts:
                part = slice(first, min(first + record_every, end))
                params, moments, loss = _train(
                    graph,
                    readout,
                    mode,
                    (params, moments),
                    rest,
                    (x, y),
                    temperatures[part],
                    batches[part],
                    learning_rate,
                    weight_decay,
                )
                state = nnx.merge_state(params, rest)
                accuracy = _accuracy(
                    graph, readout, state, x, y, temperatures[part.stop - 1]
                )
                record = Record(
                    restart,
                    part.stop,
                    float(temperatures[part.stop - 1]),
                    float(loss),
                    Accuracy(*(float(share) for share in accuracy)),
                )
                history.append(record)
                if progress is not None:
                    progress(record)
        circuit = nnx.merge(graph, params, rest)
        accuracy = history[-1].accuracy
        if best is None or accuracy.hard > best.accuracy.hard:
            best = Learned(circuit, accuracy, restart, ())
        if accuracy.hard == 1:
            break
    assert best is not None
    return replace(best, restarts=restart, history=tuple(history))


def _batches(key: PRNGKey, rows: int, size: int, steps: int) -> np.ndarray:
    """Return row numbers (steps, size); an epoch's last rows, too few, are left out."""
    if size == rows:
        return np.broadcast_to(np.arange(rows), (steps, rows))
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    whole = rows // size
    epochs = [rng.permutation(rows)[: whole * size] for _ in range(-(-steps // whole))]
    return np.concatenate(epochs).reshape(-1, size)[:steps]


@partial(jax.jit, static_argnums=(0, 1, 2))
def _train(
    graph: Any,
    readout: Readout,
    mode: Mode,
    state: Any,
    rest: Any,
    data: Any,
    temperatures: Any,
    batches: Any,
    learning_rate: Any,
    weight_decay: Any,
) -> Any:
    """Return parameters and moments after a step a temperature, and the mean loss."""
    x, y = data
    optimizer = optax.scale_by_adam()

    def step(carry: Any, at: Any) -> Any:
        params, moments = carry
        temperature, rows = at

        def loss(params: Any) -> Any:
            circuit = nnx.merge(graph, params, rest)
            out = circuit(x[rows], mode=mode, temperature=temperature)
            return readout.loss(out, y[rows]).mean()

        value, slope = jax.value_and_grad(loss)(params)
        updates, moments = optimizer.update(slope, moments)
        params = jax.tree.map(
            lambda p, u: p - learning_rate * (u + weight_decay * p), params, updates
        )
        return (params, moments), value

    (params, moments), losses = jax.lax.scan(step, state, (temperatures, batches))
    return params, moments, losses.mean()


@partial(jax.jit, static_argnums=(0, 1))
def _accuracy(
    graph: Any, readout: Readout, state: Any, x: Any, y: Any, temperature: Any
) -> Any:
    circuit = nnx.merge(graph, state)
    return tuple(
        readout.right(circuit(x, mode=mode, temperature=temperature), y).mean()
        for mode in (Mode.SOFT, Mode.HARD)
    )
