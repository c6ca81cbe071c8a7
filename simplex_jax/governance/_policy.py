"""Who may read whom in attention: a bilinear policy and a veto on keys."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from ._dense import Dense


class Policy(nnx.Module):
    r"""Add a low-rank bilinear bias to the scores of attention.

    $P_{nts} = \gamma_n \langle u_n(x_t), w_k(x_s)\rangle / \sqrt r$ for head n that
    reads key head k. Unlike a bias that is a sum over query and key, it can say that
    one kind of query should read one kind of key. $\gamma = 0$ at the start, so nothing
    changes before training.

    Args:
        features: width D of a token.
        heads: N, query heads.
        kv_heads: K, key heads.
        rank: r, from 1 on.
        leading: axes in front of every parameter, for layers that a scan slices.
        param_dtype: of the parameters.
        rngs: draws u and w.

    Source: SIM-ONE's policy mask, c_t + c_s; deviation: bilinear, because c_t is the
    same for all keys and softmax ignores it; the scale is learned.
    """

    def __init__(
        self,
        features: int,
        heads: int,
        kv_heads: int,
        rank: int,
        *,
        leading: tuple[int, ...] = (),
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Draw u and w; the scale is 0."""
        common = {"leading": leading, "param_dtype": param_dtype, "rngs": rngs}
        self.query = Dense(features, heads * rank, **common)
        self.key = Dense(features, kv_heads * rank, **common)
        self.scale = nnx.Param(jnp.zeros((*leading, heads), param_dtype))
        self.rank = rank

    def __call__(
        self, x: Float[Array, "B T D"]
    ) -> tuple[Float[Array, "B T N r"], Float[Array, "B T K r"]]:
        r"""Return both factors of the bias.

        Args:
            x: normalised stream.

        Returns:
            $\gamma u / \sqrt r$ and w, in float32 or wider; the bias is their product.
            Differentiable by jvp, vjp and vmap, by x and the parameters.
        """
        b, t, _ = x.shape
        u = self.query(x).reshape(b, t, -1, self.rank)
        w = self.key(x).reshape(b, t, -1, self.rank)
        scale = self.scale[...].astype(u.dtype) * self.rank**-0.5
        return u * scale[None, None, :, None], w


class Veto(nnx.Module):
    r"""Gate every key of attention: its weight is multiplied by $\sigma(\kappa_s)$.

    $\kappa = x W + b$, W = 0 at the start: all keys share one gate, which softmax
    ignores.

    Args:
        features: width D of a token.
        kv_heads: K, key heads.
        leading: axes in front of every parameter.
        param_dtype: of the parameters.
        rngs: unused: nothing is drawn.
    """

    def __init__(
        self,
        features: int,
        kv_heads: int,
        *,
        leading: tuple[int, ...] = (),
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Start with a gate of 0.98 for every key."""
        common = {"leading": leading, "param_dtype": param_dtype, "rngs": rngs}
        self.gate = Dense(features, kv_heads, zero=True, **common)
        self.bias = nnx.Param(jnp.full((*leading, kv_heads), 4.0, param_dtype))

    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T K"]:
        r"""Return what the gates add to the scores, relative to a resting gate.

        $\log\sigma(\kappa_s) - \log\sigma(b)$: softmax ignores the second term, which
        makes the bias exactly 0 before training.

        Args:
            x: normalised stream.

        Returns:
            In float32 or wider. Differentiable by jvp, vjp and vmap.
        """
        logit = self.gate(x)
        rest = self.bias[...].astype(logit.dtype)[None, None]
        return jax.nn.log_sigmoid(logit + rest) - jax.nn.log_sigmoid(rest)

    def gate_prob(self, x: Float[Array, "B T D"]) -> Float[Array, "B T K"]:
        r"""Return the gates $\sigma(\kappa)$, in (0, 1)."""
        logit = self.gate(x)
        return jax.nn.sigmoid(logit + self.bias[...].astype(logit.dtype)[None, None])
