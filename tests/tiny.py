"""Small random decoders: one size a kind, and every number drawn by NumPy.

Compiling a decoder's own initial draws takes longer than most tests of it.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from simplex_jax.models import Decoder, DecoderConfig

KINDS = ("llama", "qwen2", "qwen3")
VOCAB = 64
WIDTH = 32

M = TypeVar("M", bound=nnx.Module)


def config(kind: str = "llama", **changes: Any) -> DecoderConfig:
    """Return the configuration of a kind's one size, changed as a test needs it."""
    fields: dict[str, Any] = {
        "model_type": kind,
        "vocab_size": VOCAB,
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16 if kind == "qwen3" else None,
        "max_position_embeddings": 64,
        "tie_word_embeddings": kind == "llama",
    }
    return DecoderConfig(**(fields | changes))


def decoder(config: DecoderConfig, seed: int = 0, **options: Any) -> Decoder:
    """Return a decoder no part of which is idle, with logits of a unit or two."""
    return drawn(_abstract(config, options), seed)


def untrained(config: DecoderConfig, seed: int = 0, **options: Any) -> Decoder:
    """Return a decoder with weights of the law that ``Decoder`` draws its own from."""

    def draw(name, normal):
        constants = {"scale": np.ones_like, "bias": np.zeros_like}
        return constants[name](normal) if name in constants else 0.02 * normal

    return _filled(_abstract(config, options), seed, draw)


def drawn(module: M, seed: int = 0) -> M:
    """Return a module, abstract or not, with every parameter drawn.

    Norms lie around 1, biases are half a unit, matrices keep the stream's scale and
    logits have a standard deviation of one unit or two.
    """

    def draw(name, normal):
        match name:
            case "scale":
                return 1 + 0.3 * normal
            case "bias":
                return 0.5 * normal
            case "embedding":
                return 0.4 * normal
            case _:
                return normal / normal.shape[-2] ** 0.5

    return _filled(module, seed, draw)


def _abstract(config: DecoderConfig, options: dict[str, Any]) -> Decoder:
    return jax.eval_shape(lambda: Decoder(config, rngs=nnx.Rngs(0), **options))


def _filled(module: M, seed: int, draw: Callable[[Any, np.ndarray], np.ndarray]) -> M:
    graphdef, state = nnx.split(module)
    rng = np.random.default_rng(seed)
    flat = dict(nnx.to_flat_state(state))
    for path, variable in flat.items():
        value = draw(path[-1], rng.standard_normal(variable.shape))
        flat[path] = variable.replace(jnp.asarray(value, variable.dtype))
    return nnx.merge(graphdef, nnx.from_flat_state(flat))
