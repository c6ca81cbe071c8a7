"""The decoder's parts as NNX modules; every Variable carries its outside names.

All layers of a model live in one module of each kind, with a leading layer axis L on
every Variable; the decoder's scan slices that axis off before a module is called. The
metadata ``hf_name`` and ``gguf_name`` name the module outside (``{i}`` is the layer),
``rope_heads`` marks rows that llama's GGUF files interleave.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Int

from .._typing import PRNGKey
from ..governance import DeltaState
from ._config import DecoderConfig
from ._governance import Governance, Marks
from ._rope import apply_rope

_INIT_STD = 0.02
KEPT = "kept"
# Fewer queries at a time give products that are slower than they save.
_LEAST_QUERIES = 64


def wide(dtype) -> jnp.dtype:
    """Return the dtype for norms, angles and softmax: float32, or float64 if given."""
    return jnp.promote_types(dtype, jnp.float32)


def project(
    x: Float[Array, "*rows I"], kernel: Float[Array, "I O"]
) -> Float[Array, "*rows O"]:
    """Return ``x @ kernel``, accumulated in float32 or wider, in the dtype of x."""
    y = jnp.matmul(x, kernel, preferred_element_type=wide(x.dtype))
    return y.astype(x.dtype)


class Linear(nnx.Module):
    """Map the last axis: ``x @ kernel + bias``.

    Shapes: kernel (..., in, out), the transpose of HF's; bias (..., out) or absent.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        leading: tuple[int, ...] = (),
        use_bias: bool = False,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
        **names,
    ):
        """Draw the kernel from N(0, 0.02^2); the bias starts at 0."""
        shape = (*leading, in_features, out_features)
        kernel = jax.random.normal(rngs.params(), shape, param_dtype) * _INIT_STD
        self.kernel = nnx.Param(kernel.astype(param_dtype), **names)
        self.bias = nnx.data(None)
        if use_bias:
            bias = jnp.zeros((*leading, out_features), param_dtype)
            self.bias = nnx.Param(bias, **names)

    def __call__(
        self, x: Float[Array, "B T I"], *, key: PRNGKey | None = None
    ) -> Float[Array, "B T O"]:
        """Return the mapped rows; ``key`` is for the adapters that wrap this layer."""
        del key
        y = project(x, self.kernel[...])
        return y if self.bias is None else y + _like(self.bias[...], y)


class RMSNorm(nnx.Module):
    r"""Scale to unit root mean square: $x / \sqrt{\overline{x^2} + \epsilon} \cdot w$.

    The mean is taken in float32 or wider, whatever the dtype of x.
    """

    def __init__(
        self,
        features: int,
        eps: float,
        *,
        leading: tuple[int, ...] = (),
        param_dtype=jnp.float32,
        **names,
    ):
        """Start at w = 1."""
        self.scale = nnx.Param(jnp.ones((*leading, features), param_dtype), **names)
        self.eps = eps

    def __call__(self, x: Float[Array, "*rows D"]) -> Float[Array, "*rows D"]:
        """Return the normalised rows in the dtype of x."""
        y = x.astype(wide(x.dtype))
        y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + self.eps)
        return (y * _like(self.scale[...].astype(y.dtype), y)).astype(x.dtype)


def _like(vector: Array, x: Array) -> Array:
    return jax.lax.expand_dims(vector, range(x.ndim - 1))


class LayerCache(NamedTuple):
    """What one layer keeps of earlier tokens; None where there is no such part.

    Args:
        keys: with the channels C of the governance heads.
        values: they and the keys lie as attention's two products read them: decoding
            transposes neither.
        forgotten: ``governance.Forget``'s sum so far.
        memory: state of ``governance.DeltaMemory``.
    """

    keys: Float[Array, "B K C S"] | None = None
    values: Float[Array, "B K S H"] | None = None
    forgotten: Float[Array, "B K"] | None = None
    memory: DeltaState | None = None


def attend(
    q: Float[Array, "B T N C"],
    k: Float[Array, "B K S C"],
    v: Float[Array, "B K S H"],
    mask: Bool[Array, "B T S"],
) -> Float[Array, "B T N H"]:
    r"""Return grouped-query attention, $\mathrm{softmax}(q k^\top / \sqrt H)\, v$.

    Args:
        q: queries; head n reads key head ``n // (N / K)``. Channels beyond H add to
            the scores.
        k: keys.
        v: values; their width is H.
        mask: True where a query may look. A query that may look nowhere gives zeros.

    Returns:
        One vector a query and head, in the dtype of q. Softmax runs in float32 or
        wider. Differentiable in q, k and v by jvp and vjp, fully masked rows included.
    """
    b, t, n, _ = q.shape
    weights = attention_weights(q, k, mask, v.shape[3]).astype(v.dtype)
    out = jnp.einsum("bkgts,bksh->bkgth", weights, v)
    return out.transpose(0, 3, 1, 2, 4).reshape(b, t, n, v.shape[3])


def attention_weights(
    q: Float[Array, "B T N C"],
    k: Float[Array, "B K S C"],
    mask: Bool[Array, "B T S"],
    width: int,
) -> Float[Array, "B K G T S"]:
    """Return the weights of ``attend``, heads by key head and place in its group.

    Args:
        q: as for ``attend``, likewise the rest.
        k: keys.
        mask: where a query may look.
        width: H, whose root divides the products.

    Returns:
        Rows of sum 1, or of zeros, in float32 or wider.
    """
    b, t, n, channels = q.shape
    groups = k.shape[1]
    q = q.reshape(b, t, groups, n // groups, channels).transpose(0, 2, 3, 1, 4)
    dtype = wide(q.dtype)
    scores = jnp.einsum("bkgtc,bksc->bkgts", q, k, preferred_element_type=dtype)
    allowed = mask[:, None, None]
    scores = jnp.where(allowed, scores * width**-0.5, jnp.finfo(dtype).min)
    top = jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))
    weights = jnp.where(allowed, jnp.exp(scores - top), 0)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    return weights / jnp.where(total == 0, 1, total)


def attend_causally(
    q: Float[Array, "B T N C"],
    k: Float[Array, "B K T C"],
    v: Float[Array, "B K T H"],
    mask: Bool[Array, "B T T"],
) -> Float[Array, "B T N H"]:
    """Return ``attend(q, k, v, mask)``, given that no query may look at a later key.

    Queries are taken in at most eight groups, each with the keys up to its own end. The
    backward pass computes a group's weights anew, so that those of one group alone are
    in memory at a time, and nearly half of all are never computed.

    Args:
        q: as for ``attend``, likewise the rest.
        k: keys.
        v: values.
        mask: False above the diagonal.

    Returns:
        As ``attend``, and as differentiable.
    """
    length = q.shape[1]
    size = max(_LEAST_QUERIES, -(-length // 8))
    groups = []
    for start in range(0, length, size):
        end = min(start + size, length)
        seen = (k[:, :, :end], v[:, :, :end], mask[:, start:end, :end])
        groups.append(jax.checkpoint(attend)(q[:, start:end], *seen))
    return jnp.concatenate(groups, axis=1)


class Attention(nnx.Module):
    """Grouped-query self-attention with rotary positions."""

    def __init__(self, config: DecoderConfig, *, leading=(), param_dtype, rngs):
        """Build the four projections and, for qwen3, the norms on q and k.

        The governance heads are added by the decoder, after everything else.
        """
        width = config.head_width
        heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
        common = {"leading": leading, "param_dtype": param_dtype}

        def linear(name, gguf_name, rows_in, rows_out, **kwargs):
            return Linear(
                rows_in,
                rows_out,
                hf_name=f"model.layers.{{i}}.self_attn.{name}",
                gguf_name=f"blk.{{i}}.{gguf_name}",
                rngs=rngs,
                **common,
                **kwargs,
            )

        hidden, bias = config.hidden_size, config.qkv_bias
        q_rows, kv_rows = heads * width, kv_heads * width
        q_names = {"rope_heads": heads, "use_bias": bias}
        k_names = {"rope_heads": kv_heads, "use_bias": bias}
        self.q_proj = linear("q_proj", "attn_q", hidden, q_rows, **q_names)
        self.k_proj = linear("k_proj", "attn_k", hidden, kv_rows, **k_names)
        self.v_proj = linear("v_proj", "attn_v", hidden, kv_rows, use_bias=bias)
        self.o_proj = linear("o_proj", "attn_output", q_rows, hidden)
        self.q_norm = nnx.data(None)
        self.k_norm = nnx.data(None)
        if config.qk_norm:
            self.q_norm, self.k_norm = (
                RMSNorm(
                    width,
                    config.rms_norm_eps,
                    hf_name=f"model.layers.{{i}}.self_attn.{name}_norm",
                    gguf_name=f"blk.{{i}}.attn_{name}_norm",
                    **common,
                )
                for name in "qk"
            )
        self.governance: Governance | None = nnx.data(None)
        self.head_width = width

    def queries_and_keys(
        self,
        x: Float[Array, "B T D"],
        rope: tuple[Array, Array],
        marks: Marks,
        *,
        past: Float[Array, "B K"] | None = None,
        key: PRNGKey | None = None,
    ) -> tuple[Float[Array, "B T N C"], Float[Array, "B T K C"], Array | None]:
        """Return what the scores are products of.

        Args:
            x: normalised stream.
            rope: cos and sin tables.
            marks: for the governance heads.
            past: of a cache: ``forgotten``.
            key: for dropout in adapters.

        Returns:
            Queries and keys, rotated, with the governance heads' channels, and the
            next ``forgotten``.
        """
        b, t, _ = x.shape
        q, k = (
            kept(linear(x, key=fold(key, i))).reshape(b, t, -1, self.head_width)
            for i, linear in enumerate((self.q_proj, self.k_proj))
        )
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = apply_rope(q, rope), apply_rope(k, rope)
        if self.governance is None:
            return q, k, None
        return self.governance.widen(x, q, k, marks, past)

    def __call__(
        self,
        x: Float[Array, "B T D"],
        rope: tuple[Array, Array],
        mask: Bool[Array, "B T S"],
        *,
        marks: Marks | None = None,
        cache: LayerCache | None = None,
        slot: Int[Array, ""] | int = 0,
        key: PRNGKey | None = None,
    ) -> tuple[Float[Array, "B T D"], LayerCache | None]:
        """Return attention's output and the cache with this call's tokens in it.

        Args:
            x: normalised stream.
            rope: cos and sin tables.
            mask: which slots each query may look at; without cached keys S = T, and
                none looks ahead.
            marks: for the governance heads; None: all tokens go on with what the cache
                holds, and none is padding.
            cache: of the tokens before, or None. A part that it does not have is not
                kept: without keys, attention sees this call's tokens alone.
            slot: first cache slot that this call fills.
            key: for dropout in adapters.
        """
        b, t, _ = x.shape
        past = LayerCache() if cache is None else cache
        if marks is None:
            marks = Marks(jnp.ones((b, t), bool), jnp.zeros((b, t), bool))
        q, k, forgotten = self.queries_and_keys(
            x, rope, marks, past=past.forgotten, key=key
        )
        v = kept(self.v_proj(x, key=fold(key, 2))).reshape(b, t, -1, self.head_width)
        k, v = k.transpose(0, 2, 3, 1), v.swapaxes(1, 2)
        look = attend_causally
        new = LayerCache()
        if past.keys is not None and past.values is not None:
            k = jax.lax.dynamic_update_slice_in_dim(past.keys, k, slot, axis=3)
            v = jax.lax.dynamic_update_slice_in_dim(past.values, v, slot, axis=2)
            look, new = attend, LayerCache(k, v, forgotten)
        out = look(q, k.swapaxes(2, 3), v, mask).reshape(b, t, -1)
        out = self.o_proj(out, key=fold(key, 3))
        if self.governance is not None and self.governance.memory is not None:
            read, memory = self.governance.memory(x, *marks, past.memory)
            out, new = out + kept(read), new._replace(memory=memory)
        return out, None if cache is None else new


class MLP(nnx.Module):
    """Gated feed-forward (SwiGLU): ``down(silu(gate(x)) * up(x))``."""

    def __init__(self, config: DecoderConfig, *, leading=(), param_dtype, rngs):
        """Build the three projections."""
        hidden, ffn = config.hidden_size, config.intermediate_size
        sizes = {"gate": (hidden, ffn), "up": (hidden, ffn), "down": (ffn, hidden)}
        self.gate_proj, self.up_proj, self.down_proj = (
            Linear(
                *size,
                leading=leading,
                param_dtype=param_dtype,
                hf_name=f"model.layers.{{i}}.mlp.{name}_proj",
                gguf_name=f"blk.{{i}}.ffn_{name}",
                rngs=rngs,
            )
            for name, size in sizes.items()
        )

    def __call__(
        self, x: Float[Array, "B T D"], *, key: PRNGKey | None = None
    ) -> Float[Array, "B T D"]:
        """Return the layer's output for the normalised stream."""
        gate = kept(self.gate_proj(x, key=fold(key, 4)))
        up = kept(self.up_proj(x, key=fold(key, 5)))
        return self.down_proj(jax.nn.silu(gate) * up, key=fold(key, 6))


class DecoderLayer(nnx.Module):
    """Pre-norm block: attention and MLP, each added to the stream."""

    def __init__(self, config: DecoderConfig, *, leading=(), param_dtype, rngs):
        """Build the block; ``leading`` stacks that many of them."""
        common = {"leading": leading, "param_dtype": param_dtype}
        self.self_attn = Attention(config, rngs=rngs, **common)
        self.mlp = MLP(config, rngs=rngs, **common)
        self.input_layernorm, self.post_attention_layernorm = (
            RMSNorm(
                config.hidden_size,
                config.rms_norm_eps,
                hf_name=f"model.layers.{{i}}.{name}",
                gguf_name=f"blk.{{i}}.{gguf_name}",
                **common,
            )
            for name, gguf_name in (
                ("input_layernorm", "attn_norm"),
                ("post_attention_layernorm", "ffn_norm"),
            )
        )

    def __call__(
        self,
        x: Float[Array, "B T D"],
        rope: tuple[Array, Array],
        mask: Bool[Array, "B T S"],
        *,
        marks: Marks | None = None,
        cache: LayerCache | None = None,
        slot: Int[Array, ""] | int = 0,
        key: PRNGKey | None = None,
    ) -> tuple[Float[Array, "B T D"], LayerCache | None]:
        """Return the stream after this block, and the cache as ``Attention`` does."""
        normed = self.input_layernorm(x)
        out, cache = self.self_attn(
            normed, rope, mask, marks=marks, cache=cache, slot=slot, key=key
        )
        x = kept(x + out)
        return x + self.mlp(self.post_attention_layernorm(x), key=key), cache


def kept(x: Array) -> Array:
    """Return x, which the remat policy ``projections`` keeps for the backward pass."""
    return checkpoint_name(x, KEPT)


def fold(key: PRNGKey | None, index: int) -> PRNGKey | None:
    """Return a key of its own for part ``index``, or None without one."""
    return None if key is None else jax.random.fold_in(key, index)
