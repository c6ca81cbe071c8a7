"""A sparse code of hidden states."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from .._checks import refuse


class Concepts(nnx.Module):
    r"""Describe vectors by a few of many directions: a top-k sparse autoencoder.

    $z = \mathrm{top}_k(\max(0, (x - b) W_e))$, $\hat x = z W_d + b$. It is trained by
    ``concept_loss`` on hidden states that are given: no model changes with it.

    Args:
        features: width D of a vector.
        count: number of concepts.
        top_k: how many are at work at once, from 1 to count.
        rngs: draws $W_e$ with columns of length 1; $W_d$ starts as its transpose.

    Raises:
        ValueError: for a top_k outside 1 to count.

    Source: SIM-ONE's concept activations, sigmoids that nothing trains; deviation: a
    code that has to give the state back. k-sparse autoencoders, arXiv 2406.04093.
    """

    def __init__(self, *, features: int, count: int, top_k: int, rngs: nnx.Rngs):
        """Draw the dictionary; the offset is 0."""
        if not 1 <= top_k <= count:
            fix = f"give 1 to count, the number of concepts, {count}"
            refuse("top_k", top_k, fix)
        self.top_k = top_k
        kernel = jax.random.normal(rngs.params(), (features, count))
        kernel /= jnp.linalg.norm(kernel, axis=0, keepdims=True)
        self.encoder = nnx.Param(kernel)
        self.decoder = nnx.Param(kernel.T)
        self.bias = nnx.Param(jnp.zeros(features))

    def __call__(self, x: Float[Array, "*rows D"]) -> Float[Array, "*rows C"]:
        """Return the code of each vector.

        Args:
            x: vectors.

        Returns:
            0 or more, at most top_k of them not 0. Differentiable by jvp, vjp and vmap;
            which ones are at work has no derivative.
        """
        found = jax.nn.relu(self._centred(x) @ self.encoder[...].astype(x.dtype))
        least = jax.lax.top_k(found, self.top_k)[0][..., -1:]
        return jnp.where(found >= least, found, 0)

    def decode(self, code: Float[Array, "*rows C"]) -> Float[Array, "*rows D"]:
        """Return the vectors that codes stand for; differentiable."""
        y = code @ self.decoder[...].astype(code.dtype)
        return y + jnp.broadcast_to(self.bias[...].astype(y.dtype), y.shape)

    def _centred(self, x: Float[Array, "*rows D"]) -> Float[Array, "*rows D"]:
        return x - jnp.broadcast_to(self.bias[...].astype(x.dtype), x.shape)


def concept_loss(
    concepts: Concepts, x: Float[Array, "B T D"], real: Bool[Array, "B T"]
) -> Float[Array, ""]:
    r"""Return the share of the variance of x that its code does not give back.

    $\sum |x - \hat x|^2 / \sum |x - \bar x|^2$ over tokens that are no padding; one
    minus it is the code's fidelity.

    Args:
        concepts: the code.
        x: hidden states, ``stop_gradient`` of a model's.
        real: False for padding; two tokens at least must differ.

    Returns:
        0 or more; 0 is a perfect code, 1 what the mean alone would give.
        Differentiable by jvp, vjp and vmap.
    """
    weight = real[..., None].astype(x.dtype)
    mean = jnp.sum(x * weight, axis=(0, 1), keepdims=True) / jnp.sum(weight)
    missed = jnp.sum(weight * jnp.square(x - concepts.decode(concepts(x))))
    return missed / jnp.sum(weight * jnp.square(x - mean))
