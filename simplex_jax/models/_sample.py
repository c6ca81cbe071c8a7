"""Choose the next token from logits."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._checks import above, at_least, within
from .._typing import PRNGKey


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Say how the next token is drawn; filters apply in the order of the fields.

    Args:
        repetition_penalty: > 0; logits of tokens already in the row are divided by it
            where positive and multiplied where negative. 1: off.
        temperature: >= 0; logits are divided by it. 0: the most probable token.
        top_k: keep the k most probable tokens; 0: all.
        top_p: in (0, 1]; keep the smallest set of most probable tokens that reaches
            this probability; 1: all.
        min_p: in [0, 1]; keep tokens at least this probable relative to the most
            probable one; 0: all.

    Raises:
        ValueError: naming the field and the value that is out of range.
    """

    repetition_penalty: float = 1.0
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self):
        """Check the ranges."""
        above("repetition_penalty", self.repetition_penalty, 0)
        at_least("temperature", self.temperature, 0)
        at_least("top_k", self.top_k, 0)
        within("top_p", self.top_p, "(0, 1]")
        within("min_p", self.min_p, "[0, 1]")


def choose(
    logits: Float[Array, "B V"],
    seen: Bool[Array, "B _"],
    key: PRNGKey,
    step: Int[Array, ""],
    sampling: Sampling,
) -> Int[Array, " B"]:
    """Return one token a row.

    Args:
        logits: of the next token.
        seen: (B, V) tokens already in the row; (B, 0) without a repetition penalty.
        key: row b at step t draws with a key that depends on (key, b, t) only, so that
            a row's text does not depend on the rows beside it.
        step: number of tokens generated so far.
        sampling: the filters.

    Returns:
        Token ids.
    """
    penalty = sampling.repetition_penalty
    if penalty != 1:
        reduced = jnp.where(logits > 0, logits / penalty, logits * penalty)
        logits = jnp.where(seen, reduced, logits)
    if sampling.temperature == 0:
        return jnp.argmax(logits, axis=-1)
    logits = keep(logits / sampling.temperature, sampling)
    rows = jnp.arange(logits.shape[0])
    draw = jax.vmap(
        lambda row, row_logits: jax.random.categorical(
            jax.random.fold_in(jax.random.fold_in(key, row), step), row_logits
        )
    )
    return draw(rows, logits)


def keep(logits: Float[Array, "B V"], sampling: Sampling) -> Float[Array, "B V"]:
    """Return the logits with tokens that top-k, top-p and min-p drop at -inf.

    Args:
        logits: already divided by the temperature.
        sampling: the filters; ties at the edge of top-k and top-p are all kept.

    Returns:
        Logits; the most probable token always stays.
    """
    if sampling.top_k or sampling.top_p < 1:
        ordered = jnp.sort(logits, axis=-1, descending=True)
        if 0 < sampling.top_k < logits.shape[-1]:
            least = ordered[:, sampling.top_k - 1, None]
            logits = jnp.where(logits < least, -jnp.inf, logits)
            ordered = jnp.where(ordered < least, -jnp.inf, ordered)
        if sampling.top_p < 1:
            probs = jax.nn.softmax(ordered, axis=-1)
            before = jnp.cumsum(probs, axis=-1) - probs
            needed = jnp.where(before < sampling.top_p, ordered, jnp.inf)
            least = jnp.min(needed, axis=-1, keepdims=True)
            logits = jnp.where(logits < least, -jnp.inf, logits)
    if sampling.min_p:
        top = jnp.max(logits, axis=-1, keepdims=True)
        least = top + jnp.log(sampling.min_p)
        logits = jnp.where(logits < least, -jnp.inf, logits)
    return logits
