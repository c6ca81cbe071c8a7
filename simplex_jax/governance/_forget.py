"""Keys of attention that fade at a rate which depends on the data."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from ._dense import Dense
from ._running_sum import running_sum


class Forget(nnx.Module):
    r"""Let keys fade: $a_k (F_t - F_s)$ is added to the score of key s at query t.

    $F_t = \sum_{j \le t} \log f_j$ over the document, $f_j = \sigma(x_j W + b)$: a gate
    at 0 puts all earlier keys out of reach of all later queries. a = 0 at the start, so
    nothing fades before training; where a turns negative, old keys gain instead.
    Softmax ignores $F_t$, so only $-a F_s$ is needed, a number a key.

    Args:
        features: width D of a token.
        kv_heads: K, key heads.
        leading: axes in front of every parameter, for layers that a scan slices.
        param_dtype: of the parameters.
        rngs: draws W.

    Precision: F grows with the row; where it reaches 560 in float32, weights are exact
    to 3e-5.
    Source: Forgetting Transformer (arXiv 2503.02130), a = 1; deviation: the scale, for
    a start that equals plain attention.
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
        """Start with gates around 0.95 that have no effect."""
        common = {"leading": leading, "param_dtype": param_dtype}
        self.gate = Dense(features, kv_heads, bias=3.0, rngs=rngs, **common)
        self.scale = nnx.Param(jnp.zeros((*leading, kv_heads), param_dtype))

    def __call__(
        self,
        x: Float[Array, "B T D"],
        real: Bool[Array, "B T"],
        fresh: Bool[Array, "B T"],
        past: Float[Array, "B K"] | None = None,
    ) -> tuple[Float[Array, "B T K"], Float[Array, "B K"]]:
        """Return what each key adds to its scores, and F after the last token.

        Args:
            x: normalised stream.
            real: False for padding, which leaves F as it is.
            fresh: True where a document begins: the sum starts from 0.
            past: F before the first token; None: 0.

        Returns:
            ``-a F`` and the last F, in float32 or wider. Differentiable by jvp, vjp
            and vmap, by x, past and the parameters.
        """
        logs = jnp.where(real[..., None], jax.nn.log_sigmoid(self.gate(x)), 0)
        if past is not None:
            logs = logs.at[:, 0].add(jnp.where(fresh[:, :1], 0, past))
        total = running_sum(logs, fresh)
        return -self.scale[...].astype(total.dtype)[None, None] * total, total[:, -1]

    def gate_prob(self, x: Float[Array, "B T D"]) -> Float[Array, "B T K"]:
        """Return the gates f, in (0, 1)."""
        return jax.nn.sigmoid(self.gate(x))
