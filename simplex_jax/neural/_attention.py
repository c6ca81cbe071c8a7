"""Attention whose sharpness is learned, scheduled, or taken to its limit."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from .._checks import at_least, positive_or_nan
from ._mode import Mode
from ._positions import rotary
from ._straight_through import straight_through


@dataclasses.dataclass(frozen=True)
class AttentionConfig:
    """Describe a layer of attention in Hugging Face's words.

    Args:
        hidden_size: width of what goes in and comes out.
        num_attention_heads: heads of queries.
        num_key_value_heads: heads of keys and values, each read by as many query
            heads; None: one a query head.
        head_dim: width of a head; None: ``hidden_size // num_attention_heads``.
        rope_theta: base of rotary positions; None: none.
        temperature: of every head at the start, or for good; inside the bounds.
        learn_temperature: whether each head learns its own.
        temperature_bounds: between which it is learned, both > 0.

    Raises:
        ValueError: where heads do not divide, or a value is out of range.
    """

    hidden_size: int
    num_attention_heads: int
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    rope_theta: float | None = None
    temperature: float = 1.0
    learn_temperature: bool = True
    temperature_bounds: tuple[float, float] = (0.01, 100.0)

    def __post_init__(self):
        """Fill in what is derived, and check."""
        heads = self.num_attention_heads
        if self.num_key_value_heads is None:
            object.__setattr__(self, "num_key_value_heads", heads)
        for name in ("hidden_size", "num_attention_heads", "num_key_value_heads"):
            at_least(name, getattr(self, name))
        if heads % self.kv_heads:
            raise ValueError(
                f"num_attention_heads is {heads}; give a multiple of "
                f"num_key_value_heads, which is {self.kv_heads}"
            )
        if self.head_dim is None:
            if self.hidden_size % heads:
                raise ValueError(
                    f"hidden_size is {self.hidden_size}; give a multiple of "
                    f"num_attention_heads, which is {heads}, or head_dim"
                )
            object.__setattr__(self, "head_dim", self.hidden_size // heads)
        at_least("head_dim", self.head_width)
        low, high = self.temperature_bounds
        if not 0 < low < high:
            raise ValueError(
                f"temperature_bounds is {self.temperature_bounds}; give two numbers "
                "above 0, the smaller one first"
            )
        if not low < self.temperature < high:
            raise ValueError(
                f"temperature is {self.temperature}; give a number between {low} and "
                f"{high}, or other temperature_bounds"
            )

    @property
    def kv_heads(self) -> int:
        """Return ``num_key_value_heads`` as an int."""
        assert self.num_key_value_heads is not None
        return self.num_key_value_heads

    @property
    def head_width(self) -> int:
        """Return ``head_dim`` as an int."""
        assert self.head_dim is not None
        return self.head_dim


def temperature_attention(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S K H"],
    v: Float[Array, "B S K H"],
    temperature: Float[ArrayLike, "..."] = 1.0,
    *,
    mask: Array | None = None,
    causal: bool = False,
    bias: Float[Array, "N T S"] | None = None,
    mode: Mode = Mode.SOFT,
) -> Float[Array, "B T N H"]:
    r"""Return $\mathrm{softmax}((q k^\top / \sqrt H + b) / T)\, v$, grouped by heads.

    SOFT is that. HARD takes the value of the best key, the first of equal ones: the
    limit for T to 0. STRAIGHT_THROUGH has HARD's value and SOFT's derivative.

    Args:
        q: queries; head n reads key head ``n // (N / K)``.
        k: keys; K divides N.
        v: values.
        temperature: T > 0, one number or one a query head, (N,); may be traced.
        mask: bool, True where a query may look: (T, S), (B, T, S) or (B, N, T, S). A
            query that may look nowhere gives zeros.
        causal: whether query t looks at keys up to t alone, beside ``mask``.
        bias: b, added to scores, such as ``alibi_bias``.
        mode: see ``Mode``.

    Returns:
        One vector a query and head, in the dtype of q; softmax in float32 or wider.

    Raises:
        ValueError: naming heads that do not divide, a mask of another dtype or shape,
            a temperature of another shape, or a concrete one that is not positive; a
            traced one gives NaN.

    Differentiable: jvp, vjp and vmap by q, k, v, b and T, rows that are masked in full
    included; in HARD by v alone. Source: Simplex's temperature attention; deviation:
    masked rows give zeros, masks have one polarity, and T is not detached.
    """
    heads, kv_heads = q.shape[2], k.shape[2]
    if heads % kv_heads:
        raise ValueError(
            f"q has {heads} heads and k {kv_heads}; the first must be a multiple"
        )
    t = positive_or_nan("temperature", temperature)
    if t.shape not in ((), (heads,)):
        raise ValueError(f"temperature has shape {t.shape}; give () or ({heads},)")
    t = jnp.broadcast_to(t, (heads,)).astype(jnp.promote_types(q.dtype, jnp.float32))
    allowed = _allowed(mask, causal, q.shape, k.shape[1])
    group = heads // kv_heads
    k, v = (jnp.repeat(x, group, axis=2) for x in (k, v))
    scores = jnp.einsum("btnh,bsnh->bnts", q, k, preferred_element_type=t.dtype)
    scores = scores * q.shape[-1] ** -0.5
    if bias is not None:
        scores = scores + bias.astype(t.dtype)[None]
    scores = scores / t[None, :, None, None]
    if allowed is not None:
        scores = jnp.where(allowed, scores, jnp.finfo(scores.dtype).min)
    match mode:
        case Mode.SOFT:
            out = _average(scores, v)
        case Mode.HARD:
            out = _best(scores, v)
        case Mode.STRAIGHT_THROUGH:
            out = straight_through(_best(scores, v), _average(scores, v))
    if allowed is not None:
        out = jnp.where(allowed.any(-1).swapaxes(1, 2)[..., None], out, 0)
    return out.astype(q.dtype)


def _allowed(
    mask: Array | None, causal: bool, shape: tuple[int, ...], keys: int
) -> Bool[Array, "..."] | None:
    """Return where queries may look as (1 or B, 1 or N, T, S), or None: everywhere."""
    batch, queries, heads, _ = shape
    found = None
    if mask is not None:
        cells = (queries, keys)
        shapes = (cells, (batch, *cells), (batch, heads, *cells))
        if mask.dtype != jnp.bool_ or mask.shape not in shapes:
            raise ValueError(
                f"mask is {mask.dtype} of shape {mask.shape}; give bool, True where a "
                f"query may look, of shape {', '.join(map(str, shapes))}"
            )
        found = mask[:, None] if mask.ndim == 3 else mask
        found = found.reshape((1,) * (4 - found.ndim) + found.shape)
    if causal:
        seen = jnp.tril(jnp.ones((1, 1, queries, keys), bool))
        found = seen if found is None else found & seen
    return found


def _average(
    scores: Float[Array, "B N T S"], v: Float[Array, "B S N H"]
) -> Float[Array, "B T N H"]:
    # Not jax.nn.dot_product_attention, whose softmax is float32 in float64 too.
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.einsum("bnts,bsnh->btnh", weights, v)


def _best(
    scores: Float[Array, "B N T S"], v: Float[Array, "B S N H"]
) -> Float[Array, "B T N H"]:
    scores = jax.lax.stop_gradient(scores)
    best = jnp.argmax(scores, axis=-1).swapaxes(1, 2)
    out = jnp.take_along_axis(v, best[..., None], axis=1)
    # A temperature that is none decides nothing here, and must not go unseen.
    wrong = jnp.isnan(scores).any(-1).swapaxes(1, 2)[..., None]
    return jnp.where(wrong, jnp.nan, out)


class TemperatureAttention(nnx.Module):
    r"""Self-attention whose heads have temperatures, learned or given.

    $\log T_n = \log l + \sigma(\rho_n) (\log h - \log l)$ with a learned $\rho_n$ and
    bounds l and h: positive, bounded, and moved by the same share at any size.

        >>> config = neural.AttentionConfig(hidden_size=64, num_attention_heads=4)
        >>> layer = neural.TemperatureAttention(config, rngs=nnx.Rngs(0))
        >>> y = layer(jnp.ones((2, 8, 64)), causal=True)

    Args:
        config: sizes, and how temperatures begin.
        rngs: for the four projections, which are Flax's.

    Source: Simplex's temperature attention; deviation: one temperature a head, a
    gradient for it, and grouped-query heads.
    """

    def __init__(self, config: AttentionConfig, *, rngs: nnx.Rngs):
        """Draw the projections."""
        self.config = config
        hidden, width = config.hidden_size, config.head_width
        rows, kv_rows = config.num_attention_heads * width, config.kv_heads * width

        def linear(inputs: int, outputs: int) -> nnx.Linear:
            return nnx.Linear(inputs, outputs, use_bias=False, rngs=rngs)

        self.q_proj, self.o_proj = linear(hidden, rows), linear(rows, hidden)
        self.k_proj, self.v_proj = linear(hidden, kv_rows), linear(hidden, kv_rows)
        self.raw_temperature = nnx.data(None)
        if config.learn_temperature:
            low, high = map(jnp.log, config.temperature_bounds)
            share = (jnp.log(config.temperature) - low) / (high - low)
            raw = jax.scipy.special.logit(share)
            self.raw_temperature = nnx.Param(jnp.full(config.num_attention_heads, raw))

    @property
    def temperature(self) -> Float[Array, "..."]:
        """The temperature of each head, (N,), or of all where none is learned."""
        if self.raw_temperature is None:
            return jnp.asarray(self.config.temperature)
        low, high = map(jnp.log, self.config.temperature_bounds)
        share = jax.nn.sigmoid(self.raw_temperature[...])
        return jnp.exp(low + share * (high - low))

    def __call__(
        self,
        x: Float[Array, "B T D"],
        *,
        mask: Array | None = None,
        causal: bool = False,
        bias: Float[Array, "N T T"] | None = None,
        positions: Int[Array, "B T"] | None = None,
        mode: Mode = Mode.SOFT,
        temperature: Float[ArrayLike, "..."] | None = None,
    ) -> Float[Array, "B T D"]:
        """Return what each position gathers from the others.

        Args:
            x: one vector a position.
            mask: as for ``temperature_attention``.
            causal: as for it.
            bias: as for it.
            positions: for rotary positions; None: counted from 0.
            mode: as for it.
            temperature: instead of the layer's own, as from a schedule; may be traced.

        Returns:
            Like x.

        Raises:
            ValueError: as ``temperature_attention``.

        Differentiable: as ``temperature_attention``, by every parameter.
        """
        batch, length, _ = x.shape
        q, k, v = (
            project(x).reshape(batch, length, -1, self.config.head_width)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        if self.config.rope_theta is not None:
            if positions is None:
                positions = jnp.broadcast_to(jnp.arange(length), (batch, length))
            theta = self.config.rope_theta
            q, k = (rotary(part, positions, theta=theta) for part in (q, k))
        out = temperature_attention(
            q,
            k,
            v,
            self.temperature if temperature is None else temperature,
            mask=mask,
            causal=causal,
            bias=bias,
            mode=mode,
        )
        return self.o_proj(out.reshape(batch, length, -1))
