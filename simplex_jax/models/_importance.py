"""What every linear map of a model is given, for importance matrices."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from .._typing import PRNGKey, Tokens
from ._decoder import Decoder, segment_mask, segment_positions
from ._layers import DecoderLayer, wide
from ._rope import rope_tables


def input_squares(
    model: Decoder, tokens: Tokens
) -> dict[str, Float[Array, "L columns"]]:
    r"""Return $\sum x_j^2$ over all tokens for every column j of the linear maps.

    Args:
        model: a decoder without adapters.
        tokens: ids; every row is a text of its own, and every token counts.

    Returns:
        By the tensor's GGUF name with ``{i}`` for the layer, ``blk.{i}.attn_q.weight``
        and six others, in float32 or wider. Jit-able; differentiable in the model.

    Source: llama.cpp's ``imatrix`` tool, which leaves embedding and head out too.
    """
    segments = jnp.ones_like(tokens)
    x = model.embed_tokens(tokens)
    rope = rope_tables(model.config, segment_positions(segments), wide(x.dtype))
    mask = segment_mask(segments)
    graphdef, stacked = nnx.split(model.layers)

    def block(x, state):
        layer = nnx.merge(graphdef, state)
        probes = _put_probes(layer)
        x, _ = layer(x, rope, mask)
        return x, {name: probe.squares for name, probe in probes.items()}

    return jax.lax.scan(block, x, stacked)[1]


class _Probe:
    """Sum the squares of what a linear map is given, and apply the map."""

    def __init__(self, linear: Any):
        self.linear = linear
        self.squares: Array = jnp.zeros(())

    def __call__(
        self, x: Float[Array, "B T I"], *, key: PRNGKey | None = None
    ) -> Float[Array, "B T O"]:
        self.squares = jnp.sum(jnp.square(x.astype(wide(x.dtype))), axis=(0, 1))
        return self.linear(x, key=key)


def _put_probes(layer: DecoderLayer) -> dict[str, _Probe]:
    """Wrap every linear map of a layer, and return the probes by tensor name."""
    probes = {}
    for part in (layer.self_attn, layer.mlp):
        for attribute, module in list(vars(part).items()):
            if not attribute.endswith("_proj"):
                continue
            probe = _Probe(module)
            name = module.kernel.get_metadata()["gguf_name"]
            probes[f"{name}.weight"] = probe
            setattr(part, attribute, nnx.static(probe))
    return probes
