"""One optimizer step and one evaluation, pure functions of pytrees."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Int

from .._typing import PRNGKey
from ._loss import nll, token_accuracy

Batch: TypeAlias = Mapping[str, Array | np.ndarray]
"""Arrays (A, B, T) by name: A micro-batches of what ``nll`` takes."""


class TrainState(NamedTuple):
    """All that a step changes.

    Args:
        step: batches seen so far, skipped ones included.
        params: what trains.
        opt_state: the optimizer's.
        key_data: uint32 data of the key that dropout is drawn from; never changes,
            because a step folds its number into it.
    """

    step: Int[Array, ""]
    params: Any
    opt_state: Any
    key_data: Array


def init_state(
    params: Any, optimizer: optax.GradientTransformation, key: PRNGKey
) -> TrainState:
    """Return the state before the first step.

    Args:
        params: what trains, any pytree; copied, so that the step may donate it.
        optimizer: as ``make_step`` is given.
        key: for dropout.

    Returns:
        The state.
    """
    params = jax.tree.map(jnp.copy, params)
    return TrainState(
        jnp.zeros((), jnp.int32),
        params,
        optimizer.init(params),
        jax.random.key_data(key),
    )


def make_step(
    graphdef: Any,
    optimizer: optax.GradientTransformation,
    *,
    compute_dtype: Any = None,
    chunk_tokens: int = 256,
) -> Callable[[TrainState, Any, Batch], tuple[TrainState, dict[str, Array]]]:
    """Return the jitted step: gradients of all micro-batches, then one update.

    The loss is the NLL of all the step's targets divided by their weight, so it does
    not depend on how they are spread over micro-batches, rows and devices.

    Args:
        graphdef: of ``nnx.split(model, trainable, ...)``.
        optimizer: transforms the gradients; its state must not be donated elsewhere.
        compute_dtype: what ``params`` are cast to in the forward pass; None: nothing.
        chunk_tokens: as for ``nll``.

    Returns:
        A function of the state, which it donates, of the frozen rest of the model, and
        of a batch. It gives the next state and float32 scalars: ``loss`` (nats a
        token), ``loss_tokens`` (the weight), ``tokens`` (cells in use), ``grad_norm``.
    """
    gradients = make_gradients(
        graphdef, compute_dtype=compute_dtype, chunk_tokens=chunk_tokens
    )

    def step(state: TrainState, frozen: Any, batch: Mapping[str, Array]):
        grads, metrics = gradients(state.params, frozen, batch, step_key(state))
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, opt_state, state.key_data), metrics

    return jax.jit(step, donate_argnums=0)


def step_key(state: TrainState, ahead: Any = 0) -> Array:
    """Return the key of the step that is so many after a state's."""
    return jax.random.fold_in(
        jax.random.wrap_key_data(state.key_data), state.step + ahead
    )


def make_gradients(
    graphdef: Any, *, compute_dtype: Any = None, chunk_tokens: int = 256
) -> Callable[[Any, Any, Mapping[str, Array], Any], tuple[Any, dict[str, Array]]]:
    """Return the function from parameters to a step's gradients, not jitted.

    Args:
        graphdef: as for ``make_step``, likewise what follows.
        compute_dtype: of the forward pass.
        chunk_tokens: as for ``nll``.

    Returns:
        A function of ``params``, of the frozen rest, of a batch of micro-batches and of
        the step's key, which gives the gradients and the metrics of ``make_step``.
    """

    def loss_sum(params, frozen, batch: Mapping[str, Array], key):
        if compute_dtype is not None:
            params = jax.tree.map(lambda x: x.astype(compute_dtype), params)
        model = nnx.merge(graphdef, params, frozen)
        return nll(model, batch, key=key, chunk_tokens=chunk_tokens)

    value_and_grad = jax.value_and_grad(loss_sum, has_aux=True)

    def gradients(params: Any, frozen: Any, batch: Mapping[str, Array], key: Any):
        def add(total, at_and_micro):
            at, micro = at_and_micro
            found = value_and_grad(params, frozen, micro, jax.random.fold_in(key, at))
            return jax.tree.map(jnp.add, total, found), None

        count = batch["tokens"].shape[0]
        shapes = jax.eval_shape(
            value_and_grad,
            params,
            frozen,
            {k: v[0] for k, v in batch.items()},
            key,
        )
        zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        ((total, weight), grads), _ = jax.lax.scan(
            add, zero, (jnp.arange(count), dict(batch))
        )
        grads = jax.tree.map(lambda g: g / weight.astype(g.dtype), grads)
        metrics = {
            "loss": total / weight,
            "loss_tokens": weight,
            "tokens": jnp.sum(batch["segment_ids"] != 0),
            "grad_norm": optax.tree.norm(grads),
        }
        return grads, metrics

    return gradients


def mean_over(
    evaluate: Callable[[Any, Any, Batch], dict[str, Array]],
    params: Any,
    frozen: Any,
    batches: Iterable[Batch],
) -> dict[str, float]:
    """Return what a target costs on average over all batches.

    Args:
        evaluate: of ``make_evaluation``.
        params: what it takes first.
        frozen: what it takes second.
        batches: at least one.

    Returns:
        ``nll`` in nats and ``token_accuracy`` in [0, 1], by weight.
    """
    totals = [0.0, 0.0, 0.0]
    for batch in batches:
        found = evaluate(params, frozen, batch)
        sums = (found["nll"], found["correct"], found["weight"])
        totals = [t + float(s) for t, s in zip(totals, sums, strict=True)]
    return {"nll": totals[0] / totals[2], "token_accuracy": totals[1] / totals[2]}


def make_evaluation(
    graphdef: Any, *, compute_dtype: Any = None, chunk_tokens: int = 256
) -> Callable[[Any, Any, Batch], dict[str, Array]]:
    """Return the jitted evaluation of one batch, without dropout.

    Args:
        graphdef: as for ``make_step``.
        compute_dtype: as for ``make_step``.
        chunk_tokens: as for ``nll``.

    Returns:
        A function of ``params``, of the frozen rest and of a batch of arrays (B, T). It
        gives sums, to be added over batches: ``nll`` in nats, ``correct``, ``weight``.
    """

    def evaluate(params: Any, frozen: Any, batch: Mapping[str, Array]):
        if compute_dtype is not None:
            params = jax.tree.map(lambda x: x.astype(compute_dtype), params)
        model = nnx.merge(graphdef, params, frozen)
        total, weight = nll(model, batch, chunk_tokens=chunk_tokens)
        correct, _ = token_accuracy(model, batch, chunk_tokens=chunk_tokens)
        return {"nll": total, "correct": correct, "weight": weight}

    return jax.jit(evaluate)
