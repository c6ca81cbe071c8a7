"""A linear map whose weights may be stacked by layer."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from .._typing import PRNGKey

_INIT_STD = 0.02


class Dense(nnx.Module):
    """Map the last axis: ``x @ kernel + bias``, accumulated in float32 or wider.

    Args:
        in_features: width of a row.
        out_features: width of its image.
        leading: axes in front of the kernel's, for layers that a scan slices.
        bias: what the bias starts at; None: no bias.
        zero: whether the kernel starts at 0, and not at N(0, 0.02^2).
        param_dtype: of the weights.
        rngs: for the kernel.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        leading: tuple[int, ...] = (),
        bias: float | None = None,
        zero: bool = False,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Make the kernel (..., in, out) and the bias (..., out)."""
        shape = (*leading, in_features, out_features)
        kernel = jnp.zeros(shape, param_dtype)
        if not zero:
            kernel = jax.random.normal(rngs.params(), shape, param_dtype) * _INIT_STD
        self.kernel = nnx.Param(kernel.astype(param_dtype))
        self.bias = nnx.data(None)
        if bias is not None:
            full = jnp.full((*leading, out_features), bias, param_dtype)
            self.bias = nnx.Param(full)

    def __call__(
        self, x: Float[Array, "B T I"], *, key: PRNGKey | None = None
    ) -> Float[Array, "B T O"]:
        """Return the mapped rows in float32 or wider.

        Args:
            x: rows.
            key: for the adapters that wrap this layer.

        Returns:
            One row a row. Differentiable by jvp, vjp and vmap, by x and the weights.
        """
        del key
        wide = jnp.promote_types(x.dtype, jnp.float32)
        y = jnp.matmul(x, self.kernel[...], preferred_element_type=wide)
        return y if self.bias is None else y + self.bias[...].astype(wide)[None, None]
