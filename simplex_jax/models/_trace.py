"""Look into a decoder: its attention, its gates, and what its output depends on."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from .. import governance
from .._typing import Tokens
from ._decoder import Decoder, segment_mask, segment_positions
from ._governance import marks_of
from ._layers import attention_weights, wide
from ._rope import rope_tables


class Trace(NamedTuple):
    """What ``trace`` finds; in [0, 1] throughout, and 0 for padding.

    Args:
        entropy: of each query's weights, 1 where it looks at all keys alike.
        received: mean weight that a token gets from those that may look at it.
        importance: share of a token in what reaches, through all layers, the positions
            that may see it.
        gates: of the governance heads that the model has: ``veto``, ``forget`` and
            ``write``, by token and key head.
    """

    entropy: Float[Array, "L B N T"]
    received: Float[Array, "L B N T"]
    importance: Float[Array, "B T"]
    gates: dict[str, Float[Array, "L B T K"]]


def trace(
    model: Decoder,
    tokens: Tokens,
    positions: Int[Array, "B T"] | None = None,
    segment_ids: Int[Array, "B T"] | None = None,
) -> Trace:
    """Run a decoder and keep what its attention does.

    Makes the weights of one layer at a time, (B, N, T, T) numbers, which the model's
    own call never does.

    Args:
        model: any decoder, governed or not.
        tokens: as for the decoder's call, likewise the rest.
        positions: for RoPE.
        segment_ids: document of each token.

    Returns:
        A ``Trace`` in float32 or wider. Jit-able; differentiable where weights are
        not 0.
    """
    if segment_ids is None:
        segment_ids = jnp.ones_like(tokens)
    if positions is None:
        positions = segment_positions(segment_ids)
    x = model.embed_tokens(tokens)
    dtype = wide(x.dtype)
    rope = rope_tables(model.config, positions, dtype)
    mask = segment_mask(segment_ids)
    marks, _ = marks_of(segment_ids, jnp.zeros(len(tokens), segment_ids.dtype))
    graphdef, stacked = nnx.split(model.layers)

    def block(carry, state):
        x, flow = carry
        layer = nnx.merge(graphdef, state)
        attention = layer.self_attn
        normed = layer.input_layernorm(x)
        q, k, _ = attention.queries_and_keys(normed, rope, marks)
        weights = attention_weights(q, k.swapaxes(1, 2), mask, attention.head_width)
        weights = weights.reshape(len(tokens), -1, *mask.shape[1:])
        gates = {}
        if attention.governance is not None:
            found = attention.governance.gates(normed).items()
            gates = {n: jnp.where(marks.real[..., None], g, 0) for n, g in found}
        entropy = governance.normalised_entropy(weights, mask)
        received = governance.received_attention(weights, mask)
        x, _ = layer(x, rope, mask, marks=marks)
        return (x, governance.roll_out(weights, flow)), (entropy, received, gates)

    eye = jnp.broadcast_to(jnp.eye(tokens.shape[1], dtype=dtype), mask.shape)
    (_, flow), found = jax.lax.scan(block, (x, eye), stacked)
    entropy, received, gates = found
    return Trace(entropy, received, governance.importance(flow, mask), gates)


def attribution(
    model: Decoder,
    tokens: Tokens,
    target: Callable[[Float[Array, "B T V"]], Float[Array, ""]],
    positions: Int[Array, "B T"] | None = None,
    segment_ids: Int[Array, "B T"] | None = None,
) -> Float[Array, "B T"]:
    r"""Return how much each token's embedding moves a number: gradient times input.

    $\langle \partial f / \partial e_{bt}, e_{bt}\rangle$, one forward and one backward
    pass; the sum is the derivative of f as all embeddings are scaled up together.

    Args:
        model: any decoder.
        tokens: as for the decoder's call, likewise the rest.
        target: f, a function of the logits, such as one token's log-probability.
        positions: for RoPE.
        segment_ids: document of each token.

    Returns:
        In the unit of f and the dtype of the embeddings; exactly 0 for tokens that f
        does not depend on. Differentiable as often as f is.
    """
    x = model.embed_tokens(tokens)

    def value(x):
        hidden, _ = model.from_embeddings(x, positions, segment_ids)
        return target(model.logits(hidden))

    out, back = jax.vjp(value, x)
    (slope,) = back(jnp.ones_like(out))
    return jnp.sum(slope * x, axis=-1)
