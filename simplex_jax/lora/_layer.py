"""A linear layer with an adapter beside it."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from .._typing import PRNGKey
from ._config import LoRAConfig

# What a kernel's metadata says about its place outside; the adapter goes there too.
_NAMES = ("hf_name", "gguf_name", "rope_heads")


class LoRALinear(nnx.Module):
    r"""Add a low-rank map to a frozen one: $y = \mathrm{base}(x) + s\, (d(x) A) B$.

    Shapes, with a leading layer axis L where the base is stacked: ``lora_a``
    (in, R), ``lora_b`` (R, out), ``scale`` (). R is the largest rank of the stack;
    a layer of smaller rank r has zeros in the columns of A and rows of B beyond r.
    Their gradient is exactly zero, so they stay zero under any optimizer that keeps
    a zero with a zero gradient where it is: SGD, Adam, AdamW.

    Args:
        base: maps (..., in) to (..., out), called as ``base(x, key=key)``; has
            ``kernel``.
        lora_a, lora_b: the adapter, trained as ``nnx.LoRAParam``.
        scale: s, one a layer; a ``nnx.Variable`` that no optimizer sees.
        ranks: the rank of every layer of the stack, 0 for none.
        config: where this adapter comes from.
    """

    def __init__(
        self,
        base: nnx.Module,
        lora_a: Float[Array, "*L I R"],
        lora_b: Float[Array, "*L R O"],
        scale: Float[Array, "*L"],
        *,
        ranks: tuple[int, ...],
        config: LoRAConfig,
    ):
        """Keep the base as it is; the Variables take its outside names."""
        metadata = kernel_of(base).get_metadata()
        names = {name: metadata[name] for name in _NAMES if name in metadata}
        self.base = base
        self.lora_a = nnx.LoRAParam(lora_a, **names)
        self.lora_b = nnx.LoRAParam(lora_b, **names)
        self.scale = nnx.Variable(scale, **names)
        self.ranks = ranks
        self.config = config

    def __call__(
        self, x: Float[Array, "*rows I"], *, key: PRNGKey | None = None
    ) -> Float[Array, "*rows O"]:
        """Return the adapted rows.

        Args:
            x: input; the adapter is cast to its dtype, sums run in float32 or wider.
            key: for dropout on the adapter's input; None: no dropout.

        Returns:
            In the dtype of the base's output. Differentiable in x, in the adapter and
            in the base by jvp and vjp.
        """
        base: nnx.Module = self.base
        y = base(x, key=key)  # pyright: ignore[reportCallIssue]
        rate = self.config.lora_dropout
        if key is not None and rate > 0:
            x = dropout(x, rate, key)
        wide = jnp.promote_types(x.dtype, jnp.float32)
        a = self.lora_a[...].astype(x.dtype)
        b = self.lora_b[...].astype(x.dtype)
        # XLA on CPU is slow at the gradients of thin matrices unless their long axis is
        # the last one in memory; the barrier keeps the transposition from being undone.
        a, b = jax.lax.optimization_barrier((a.T, b.T))
        inner = jnp.einsum("...i,ri->...r", x, a, preferred_element_type=wide)
        # The scale goes here, where the array is smallest and still wide.
        inner = (inner * self.scale[...].astype(wide)).astype(x.dtype)
        outer = jnp.einsum("...r,or->...o", inner, b, preferred_element_type=wide)
        return y + outer.astype(y.dtype)


def dropout(
    x: Float[Array, "*rows I"], rate: float | int, key: PRNGKey
) -> Float[Array, "*rows I"]:
    """Zero each number with probability ``rate`` and scale the others up.

    The probability is rounded to a multiple of 2^-16, so that two decisions are made
    of one 32-bit draw, and the factor is that of the rounded one.

    Args:
        x: any shape.
        rate: in [0, 1).
        key: decides which.

    Returns:
        ``x / (1 - rate)`` or 0, of expectation x. Differentiable in x by jvp and vjp.
    """
    kept = max(round((1 - rate) * 2**16), 1)
    *rows, width = x.shape
    bits = jax.random.bits(key, (*rows, -(-width // 2)), jnp.uint32)
    bits = jax.lax.bitcast_convert_type(bits, jnp.uint16)
    bits = bits.reshape(*rows, -1)[..., :width]
    return jnp.where(bits <= np.uint16(kept - 1), x * (2**16 / kept), 0)


def kernel_of(module: object) -> nnx.Variable:
    """Return a linear module's kernel, (in, out) or (L, in, out)."""
    kernel = getattr(module, "kernel", None)
    assert isinstance(kernel, nnx.Variable)
    return kernel
