"""Run the decoder over new tokens with the keys and values of the earlier ones."""

import operator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from ._decoder import Decoder
from ._governance import Marks, empty_state, key_width
from ._layers import LayerCache, wide
from ._rope import rope_tables


class Cache(NamedTuple):
    """What every layer keeps, keys and values in slots of static number.

    Slot s of row b holds a token where ``filled[b, s]``. All rows write to the same
    slots; a shorter row leaves some of them unfilled, and its positions run on
    without a gap.

    Args:
        layers: one ``LayerCache`` a layer.
        filled: (B, S).
        used: number of slots written so far, by any row.
        lengths: (B,) tokens of each row so far: the next token's position.
    """

    layers: tuple[LayerCache, ...]
    filled: Bool[Array, "B S"]
    used: Int[Array, ""]
    lengths: Int[Array, " B"]


def empty_cache(model: Decoder, batch: int, slots: int) -> Cache:
    """Return a cache without tokens.

    Args:
        model: gives the sizes and the dtype.
        batch: rows, B.
        slots: tokens that fit, S.

    Returns:
        Zeros; L B K S (C + H) numbers, C = H for a plain model, and for a governed one
        up to L B K (1 + M + M^2) more.
    """
    config = model.config
    dtype = model.embed_tokens.embedding.dtype
    heads, width = config.num_key_value_heads, config.head_width
    channels = key_width(config, dtype)
    governance = config.governance

    def layer() -> LayerCache:
        new = LayerCache(
            jnp.zeros((batch, heads, channels, slots), dtype),
            jnp.zeros((batch, heads, slots, width), dtype),
        )
        if governance is not None and governance.forgets:
            new = new._replace(forgotten=jnp.zeros((batch, heads), wide(dtype)))
        if governance is not None and governance.associates:
            new = new._replace(memory=empty_state(config, (batch,), dtype))
        return new

    layers = tuple(layer() for _ in range(config.num_hidden_layers))
    return Cache(
        layers,
        jnp.zeros((batch, slots), bool),
        jnp.zeros((), jnp.int32),
        jnp.zeros(batch, jnp.int32),
    )


def unstack_layers(model: Decoder) -> list[nnx.State]:
    """Return the state of each layer on its own.

    XLA on CPU copies a layer's weights out of the stack before it multiplies by
    them, which costs decoding, where every weight is read once a token, half its
    speed. Decoding therefore runs over this copy, made once.

    Args:
        model: the model.

    Returns:
        L states; together as large as the stack.
    """
    state = nnx.state(model.layers)
    depth = model.config.num_hidden_layers
    return [jax.tree.map(operator.itemgetter(i), state) for i in range(depth)]


def extend(
    model: Decoder,
    tokens: Int[Array, "B T"],
    real: Bool[Array, "B T"],
    cache: Cache,
    unstacked: list[nnx.State] | None = None,
) -> tuple[Float[Array, "B T D"], Cache]:
    """Run new tokens through the decoder and add them to the cache.

    Args:
        model: the decoder.
        tokens: the next T tokens of each row.
        real: False for padding, which must follow a row's real tokens.
        cache: with at least T free slots; more tokens than slots overwrite the last.
        unstacked: ``unstack_layers(model)``; with it, layers run one after another,
            without it in a scan, which compiles faster and copies each layer's weights.

    Returns:
        Normalised hidden states, and the cache with the tokens in it.
    """
    width = tokens.shape[1]
    offsets = jnp.cumsum(real, axis=1) - 1
    positions = jnp.maximum(cache.lengths[:, None] + offsets, 0)
    filled = jax.lax.dynamic_update_slice_in_dim(cache.filled, real, cache.used, axis=1)
    slots = jnp.arange(filled.shape[1])
    causal = slots[None, :] <= cache.used + jnp.arange(width)[:, None]
    mask = filled[:, None, :] & causal[None]
    marks = Marks(real, jnp.zeros_like(real))
    x = model.embed_tokens(tokens)
    rope = rope_tables(model.config, positions, wide(x.dtype))
    graphdef, stacked = nnx.split(model.layers)

    def block(x, state, layer_cache):
        layer = nnx.merge(graphdef, state)
        return layer(x, rope, mask, marks=marks, cache=layer_cache, slot=cache.used)

    if unstacked is None:
        caches = jax.tree.map(lambda *leaves: jnp.stack(leaves), *cache.layers)
        x, caches = jax.lax.scan(lambda x, xs: block(x, *xs), x, (stacked, caches))
        layers = tuple(
            jax.tree.map(operator.itemgetter(i), caches)
            for i in range(len(cache.layers))
        )
    else:
        written = []
        for state, layer_cache in zip(unstacked, cache.layers, strict=True):
            x, layer_cache = block(x, state, layer_cache)
            written.append(layer_cache)
        layers = tuple(written)
    lengths = cache.lengths + jnp.sum(real, axis=1, dtype=jnp.int32)
    return model.norm(x), Cache(layers, filled, cache.used + width, lengths)
