"""Cross-entropy and its gradient, one block of the vocabulary at a time."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

# Fewer columns make the two products of a block slower, more need memory.
_LEAST_COLUMNS = 1536


def nll_and_gradient(
    hidden: Float[Array, "M D"],
    table: Float[Array, "V D"],
    targets: Int[Array, " M"],
    weights: Float[Array, " M"],
) -> tuple[Float[Array, ""], Float[Array, "M D"]]:
    r"""Return $\sum_i w_i (\log\sum_v e^{z_{iv}} - z_{i y_i})$ and its gradient.

    The gradient is $w_i (\sum_v p_{iv} E_v - E_{y_i})$ for $z = h E^\top$, a mean of
    token vectors, so that both are running sums and no block of logits is made twice.

    Args:
        hidden: h.
        table: E, one vector a token. It is cut into equal blocks that take every n-th
            row, so that a table whose rows are spread over devices stays where it is.
        targets: y, ids in [0, V).
        weights: w.

    Returns:
        The sum in nats, in the dtype of the weights, and the gradient by ``hidden`` in
        its dtype. Differentiable again by jvp and vjp.
    """
    vocab, width = table.shape
    wide = weights.dtype
    most = max(1, vocab // _LEAST_COLUMNS)
    count = max(n for n in range(1, most + 1) if vocab % n == 0)
    blocks = table.reshape(vocab // count, count, width)

    def add(carry, index):
        top, total, mean = carry
        block = jax.lax.dynamic_index_in_dim(blocks, index, 1, keepdims=False)
        logits = jnp.einsum("md,bd->mb", hidden, block, preferred_element_type=wide)
        highest = jnp.maximum(top, jnp.max(logits, axis=1))
        grown = jnp.exp(logits - highest[:, None])
        shrink = jnp.exp(top - highest)
        part = jnp.einsum(
            "mb,bd->md", grown.astype(table.dtype), block, preferred_element_type=wide
        )
        total = total * shrink + jnp.sum(grown, axis=1)
        return (highest, total, mean * shrink[:, None] + part), None

    start = (
        jnp.full(len(hidden), -jnp.inf, wide),
        jnp.zeros(len(hidden), wide),
        jnp.zeros(hidden.shape, wide),
    )
    (top, total, mean), _ = jax.lax.scan(add, start, jnp.arange(count))
    chosen = table[targets].astype(wide)
    nll = top + jnp.log(total) - jnp.sum(hidden.astype(wide) * chosen, axis=1)
    gradient = (mean / total[:, None] - chosen) * weights[:, None]
    return jnp.sum(nll * weights), gradient.astype(hidden.dtype)
