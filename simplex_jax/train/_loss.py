"""Cross-entropy of the next token, without ever holding all the logits."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from .._checks import at_least
from .._typing import PRNGKey
from ..models import Decoder
from ._vocabulary import nll_and_gradient


def nll(
    model: Decoder,
    batch: Mapping[str, Array],
    *,
    key: PRNGKey | None = None,
    chunk_tokens: int = 512,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    r"""Return the summed negative log-likelihood of the targets, and their weight.

    $\sum_i w_i\,(\log\sum_v e^{z_{iv}} - z_{i y_i})$ and $\sum_i w_i$: divide sums by
    sums, over micro-batches and devices alike, and every token counts the same.

    Args:
        model: a decoder, with adapters or without.
        batch: arrays (B, T), as ``data.pack`` makes them: ``tokens`` and ``targets``,
            ids; ``loss_mask``, the weight w >= 0 of each target; ``segment_ids``, 0 for
            padding; ``positions``.
        key: for dropout in adapters; None: no dropout.
        chunk_tokens: logits are made for this many targets at a time, of those alone
            whose weight is not 0: memory is
            ``chunk_tokens`` times V, not B T V.

    Returns:
        Two scalars in float32, or float64 for a float64 model: nats, and weight.

    Raises:
        ValueError: where an array is missing or the shapes differ.

    Differentiable in the model, and in the weights that are not 0, by jvp and vjp. No
    logits are made twice where the head does not train.
    """
    return _sums(model, batch, _nll, key=key, chunk_tokens=chunk_tokens)


def token_accuracy(
    model: Decoder, batch: Mapping[str, Array], *, chunk_tokens: int = 512
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return the weight of the targets that are the most probable token, and of all.

    Args:
        model: as for ``nll``.
        batch: as for ``nll``.
        chunk_tokens: as for ``nll``.

    Returns:
        Two scalars in float32 or wider; piecewise constant in the model.

    Raises:
        ValueError: as ``nll``.
    """
    model = jax.lax.stop_gradient(model)
    return _sums(model, batch, _hits, key=None, chunk_tokens=chunk_tokens)


def _nll(logits: Float[Array, "M V"], targets: Int[Array, " M"]) -> Float[Array, " M"]:
    chosen = jnp.take_along_axis(logits, targets[:, None], axis=1)[:, 0]
    return jax.nn.logsumexp(logits, axis=1) - chosen


def _hits(logits: Float[Array, "M V"], targets: Int[Array, " M"]) -> Float[Array, " M"]:
    return (jnp.argmax(logits, axis=1) == targets).astype(logits.dtype)


def _sums(
    model: Decoder,
    batch: Mapping[str, Array],
    score: Callable[[Array, Array], Array],
    *,
    key: PRNGKey | None,
    chunk_tokens: int,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return the weighted sum of a score of logits and targets, and the weight."""
    names = ("tokens", "targets", "loss_mask", "segment_ids", "positions")
    missing = [name for name in names if name not in batch]
    if missing:
        raise ValueError(f"batch lacks {', '.join(missing)}; data.pack makes all five")
    shapes = {name: batch[name].shape for name in names}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"batch: the shapes must be equal, got {shapes}")
    at_least("chunk_tokens", chunk_tokens)
    hidden = model.hidden(
        batch["tokens"], batch["positions"], batch["segment_ids"], key=key
    )
    count = batch["targets"].size
    chunk_tokens = min(chunk_tokens, count)
    # Targets that carry loss come first, so that the chunks after them are skipped.
    weights = batch["loss_mask"].reshape(count)
    order = jnp.argsort(weights == 0, stable=True)
    hidden = hidden.reshape(count, -1)[order]
    targets, weights = batch["targets"].reshape(count)[order], weights[order]
    padding = -count % chunk_tokens
    hidden = jnp.pad(hidden, ((0, padding), (0, 0)))
    targets, weights = (jnp.pad(x, (0, padding)) for x in (targets, weights))

    dtype = jnp.promote_types(hidden.dtype, jnp.float32)
    graphdef, head = nnx.split(model.head)

    def value(hidden, head, targets, weights):
        logits = nnx.merge(graphdef, head).logits(hidden[None])[0]
        return jnp.sum(score(logits, targets) * weights.astype(dtype))

    def with_gradient(hidden, head, targets, weights):
        table = nnx.merge(graphdef, head).table
        if table is None:
            return jax.value_and_grad(value)(hidden, head, targets, weights)
        return nll_and_gradient(hidden, table, targets, weights.astype(dtype))

    chunk_sum = _with_its_gradient(_unless_empty(value), _unless_empty(with_gradient))

    def step(total, chunk):
        hidden, targets, weights = chunk
        return total + chunk_sum(hidden, head, targets, weights), None

    chunks = tuple(
        x.reshape(-1, chunk_tokens, *x.shape[1:]) for x in (hidden, targets, weights)
    )
    total, _ = jax.lax.scan(step, jnp.zeros((), dtype), chunks)
    return total, jnp.sum(weights, dtype=dtype)


def _unless_empty(f: Callable[..., Any]) -> Callable[..., Any]:
    """Return f, or the zeros that it would give, not computed, without weights."""

    def some(*args):
        def zeros(*_):
            return jax.tree.map(jnp.zeros_like, jax.eval_shape(f, *args))

        return jax.lax.cond(jnp.any(args[-1] != 0), f, zeros, *args)

    return some


def _with_its_gradient(
    f: Callable[..., Array], with_gradient: Callable[..., tuple[Array, Array]]
) -> Callable[..., Array]:
    """Return a scalar function that computes its gradient together with its value.

    Where only the first argument is differentiated, the gradient by it is small and all
    that the backward pass has to keep. Otherwise what is between is computed anew.
    """
    wrapped = jax.custom_jvp(f)

    def rule(primals, tangents):
        first, *others = tangents
        if all(map(_is_zero, jax.tree.leaves(others, is_leaf=_is_zero))):
            if _is_zero(first):
                value = f(*primals)
                return value, jnp.zeros_like(value)
            value, gradient = with_gradient(*primals)
            return value, jnp.sum(gradient * first, dtype=value.dtype)
        dense = jax.tree.map(_dense, tuple(tangents), is_leaf=_is_zero)
        return jax.jvp(jax.checkpoint(f), tuple(primals), dense)

    wrapped.defjvp(rule, symbolic_zeros=True)
    return wrapped


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)


def _dense(tangent: Any) -> Any:
    if not _is_zero(tangent):
        return tangent
    # Integers have tangents of a type that only NumPy can make.
    make = np if tangent.dtype == jax.dtypes.float0 else jnp
    return make.zeros(tangent.shape, tangent.dtype)
