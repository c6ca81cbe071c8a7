"""What attention's weights say: how spread they are, and who is looked at."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def normalised_entropy(
    weights: Float[Array, "B N T S"], mask: Bool[Array, "B T S"]
) -> Float[Array, "B N T"]:
    r"""Return how evenly each query looks at the keys it may look at.

    $-\sum_s w_s \log w_s / \log n$ for n such keys: 0 where one has all the weight, 1
    where all have the same.

    Args:
        weights: of attention, rows of sum 1, or 0 where a query may look nowhere.
        mask: True where a query may look.

    Returns:
        In [0, 1]; 0 for fewer than two keys. Differentiable by jvp, vjp and vmap where
        weights are not 0; weights of 0 give and get nothing.

    Source: SIM-ONE's attention entropy; deviation: divided by its maximum, which grows
    with the position.
    """
    positive = weights > 0
    logs = jnp.log(jnp.where(positive, weights, 1))
    most = jnp.log(jnp.maximum(jnp.sum(mask, axis=-1), 2).astype(weights.dtype))
    return -jnp.sum(jnp.where(positive, weights * logs, 0), axis=-1) / most[:, None]


def received_attention(
    weights: Float[Array, "B N T S"], mask: Bool[Array, "B T S"]
) -> Float[Array, "B N S"]:
    """Return the mean weight that each key gets from the queries that may look at it.

    Args:
        weights: as for ``normalised_entropy``.
        mask: True where a query may look.

    Returns:
        In [0, 1]; 0 for a key that nobody may look at. Differentiable in the weights.

    Source: SIM-ONE's attention features; deviation: a mean over queries, since the mean
    over keys is the same for every row.
    """
    queries = jnp.maximum(jnp.sum(mask, axis=1), 1).astype(weights.dtype)
    return jnp.sum(weights, axis=2) / queries[:, None]


def roll_out(
    weights: Float[Array, "B N T S"], flow: Float[Array, "B S S"]
) -> Float[Array, "B S S"]:
    r"""Return how much of each input reaches each position after one more layer.

    $R' = \frac12 (I + \bar W) R$ with the mean $\bar W$ over heads: half of what a
    layer gives comes by the residual stream.

    Args:
        weights: of the layer's attention, S = T.
        flow: R before the layer; the identity before the first.

    Returns:
        Rows of sum 1, less where queries may look nowhere. Differentiable.

    Source: attention rollout (arXiv 2005.00928).
    """
    return (flow + jnp.mean(weights, axis=1) @ flow) / 2


def importance(
    flow: Float[Array, "B S S"], mask: Bool[Array, "B S S"]
) -> Float[Array, "B S"]:
    """Return how much of each input reaches, on average, the positions that may see it.

    Args:
        flow: ``roll_out`` of all layers.
        mask: True where a query may look.

    Returns:
        In [0, 1]; 0 for padding. Differentiable in the flow.
    """
    return received_attention(jnp.where(mask, flow, 0)[:, None], mask)[:, 0]
