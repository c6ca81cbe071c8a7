"""What came before each token of a row, padding left out."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Shaped


def last_real(
    x: Shaped[Array, "B T *rest"],
    real: Bool[Array, "B T"],
    before: Shaped[Array, "B *rest"],
) -> Shaped[Array, "B T+1 *rest"]:
    """Return the last entry that is not padding before each token, and after all.

    Args:
        x: one entry a token.
        real: False for padding.
        before: entry ahead of the first token.

    Returns:
        Entry t is the last real one among those ahead of token t. Differentiable by
        jvp, vjp and vmap, by x and before.
    """
    rows = jnp.concatenate([before[:, None], x], axis=1)
    count = jnp.arange(1, x.shape[1] + 1)[None, :]
    last = jax.lax.cummax(jnp.where(real, count, 0), axis=1)
    last = jnp.pad(last, ((0, 0), (1, 0)))
    last = jax.lax.expand_dims(last, range(2, x.ndim))
    return jnp.take_along_axis(rows, last, axis=1)
