"""Configuration of the one decoder: HF names, read from and written to config.json."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from .._checks import at_least, refuse
from ._governance_config import GovernanceConfig, governance_from_json

ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
"""``model_type`` to HF class name; GGUF's ``general.architecture`` is the key."""

_NEVER_NONE = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
)
_COUNTS = (*_NEVER_NONE[:-2], "num_key_value_heads", "head_dim")
_ROPE_NUMBERS = (
    "rope_theta",
    "factor",
    "original_max_position_embeddings",
    "low_freq_factor",
    "high_freq_factor",
    "beta_fast",
    "beta_slow",
    "attention_factor",
)
_SCALINGS = ("linear", "llama3", "yarn", "divisors")
# Before the model_type of a governed model, so that transformers, which would leave
# its further tensors out, does not take it for a plain one.
_GOVERNED = "governed_"


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """Say how rotary frequencies are stretched beyond the trained context.

    Args:
        rope_type: ``linear`` (divide every frequency by ``factor``), ``llama3``
            (divide only long wavelengths), ``yarn`` (blend, and scale attention) or
            ``divisors`` (one divisor per frequency, as a GGUF file stores them).
        factor: stretch, >= 1.
        original_max_position_embeddings: trained context, tokens (llama3, yarn).
        low_freq_factor, high_freq_factor: llama3's two wavelength bounds.
        beta_fast, beta_slow: yarn's two rotation counts.
        attention_factor: factor on cos and sin; None: ``0.1 ln(factor) + 1`` (yarn).
        divisors: ``head_dim / 2`` positive numbers (divisors).
    """

    rope_type: str
    factor: float = 1.0
    original_max_position_embeddings: int | None = None
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    divisors: tuple[float, ...] = ()

    def __post_init__(self):
        """Check the values against each other."""
        if self.rope_type not in _SCALINGS:
            raise ValueError(
                f"rope_type {self.rope_type!r} is not supported; "
                f"supported: default, {', '.join(_SCALINGS)}"
            )
        if not self.factor >= 1:
            refuse("rope scaling factor", self.factor, "give at least 1")
        trained = self.original_max_position_embeddings
        if self.rope_type in ("llama3", "yarn") and not trained:
            raise ValueError(
                f"rope_type {self.rope_type!r} needs original_max_position_embeddings"
            )


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """Describe a Llama, Qwen2 or Qwen3 decoder in HF's words.

    Args:
        model_type: ``llama``, ``qwen2`` (bias on q, k, v) or ``qwen3`` (RMS norm on
            the heads of q and k).
        vocab_size: rows of the embedding.
        hidden_size, intermediate_size: width of the stream and of the gated MLP.
        num_hidden_layers, num_attention_heads, num_key_value_heads: counts.
        head_dim: width of a head; None: ``hidden_size // num_attention_heads``.
        rms_norm_eps: added to the mean square.
        rope_theta: base of the rotary frequencies.
        rope_scaling: None for plain RoPE.
        max_position_embeddings: context, tokens.
        tie_word_embeddings: whether the head is the embedding's transpose.
        governance: heads that govern attention; None: a plain decoder.

    Raises:
        ValueError: on an unknown ``model_type`` or sizes that do not divide.
    """

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int | None = None
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    max_position_embeddings: int = 2048
    tie_word_embeddings: bool = False
    governance: GovernanceConfig | None = None

    def __post_init__(self):
        """Fill in the derived head width and check the sizes."""
        if self.model_type not in ARCHITECTURES:
            raise ValueError(
                f"model_type {self.model_type!r} is not supported; "
                f"supported: {', '.join(ARCHITECTURES)}"
            )
        for name in (
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "max_position_embeddings",
        ):
            at_least(name, getattr(self, name))
        heads, kv_heads = self.num_attention_heads, self.num_key_value_heads
        if heads % kv_heads:
            fix = f"give a multiple of num_key_value_heads, which is {kv_heads}"
            refuse("num_attention_heads", heads, fix)
        if self.head_dim is None:
            if self.hidden_size % heads:
                fix = f"give a multiple of num_attention_heads, which is {heads}, or "
                refuse("hidden_size", self.hidden_size, f"{fix}head_dim")
            object.__setattr__(self, "head_dim", self.hidden_size // heads)
        if self.head_width < 2 or self.head_width % 2:
            refuse("head_dim", self.head_dim, "give an even number, at least 2")
        scaling = self.rope_scaling
        if scaling and scaling.rope_type == "divisors":
            if len(scaling.divisors) != self.head_width // 2:
                raise ValueError(
                    f"rope divisors: expected head_dim / 2 = {self.head_width // 2} "
                    f"values, got {len(scaling.divisors)}"
                )

    @property
    def head_width(self) -> int:
        """Return ``head_dim`` as an int, derived where the source had none."""
        assert self.head_dim is not None
        return self.head_dim

    @property
    def qkv_bias(self) -> bool:
        """Return whether q, k and v carry a bias."""
        return self.model_type == "qwen2"

    @property
    def qk_norm(self) -> bool:
        """Return whether q and k are normalised per head."""
        return self.model_type == "qwen3"


def config_from_hf(raw: Mapping[str, Any]) -> DecoderConfig:
    """Read a ``config.json`` mapping, of transformers 4 or 5.

    Args:
        raw: the parsed file. RoPE is read from ``rope_parameters`` (transformers 5)
            or from ``rope_theta`` and ``rope_scaling`` (older files).

    Returns:
        The configuration.

    Raises:
        ValueError: on an unknown architecture, a missing key, or a feature that this
            decoder does not compute (attention or MLP bias, sliding windows, another
            activation), all of them named at once.
    """
    kind = raw.get("model_type")
    if isinstance(kind, str) and raw.get("governance") is not None:
        kind = kind.removeprefix(_GOVERNED)
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        raise ValueError(
            f"model_type {kind!r} is not supported; supported: "
            f"{', '.join(ARCHITECTURES)}"
        )
    problems = []
    if kind in ("llama", "qwen3") and raw.get("attention_bias"):
        problems.append("attention_bias=true (q, k, v, o biases)")
    if raw.get("mlp_bias"):
        problems.append("mlp_bias=true")
    if raw.get("hidden_act", "silu") != "silu":
        problems.append(f"hidden_act={raw['hidden_act']!r} (only silu)")
    if raw.get("use_sliding_window"):
        problems.append("use_sliding_window=true")
    required = _NEVER_NONE[:5]
    problems += [f"missing key {name!r}" for name in required if name not in raw]
    problems += _wrong_kinds(raw, _COUNTS, int)
    problems += _wrong_kinds(raw, ("rms_norm_eps", "rope_theta"), (int, float))
    rope: dict[str, Any] = {}
    for name in ("rope_scaling", "rope_parameters"):
        if isinstance(raw.get(name) or {}, Mapping):
            rope = dict(raw.get(name) or rope)
        else:
            problems.append(f"{name}={raw[name]!r} (expected an object)")
    if not isinstance(raw.get("governance", {}), Mapping | None):
        problems.append(f"governance={raw['governance']!r} (expected an object)")
    problems += _wrong_kinds(rope, _ROPE_NUMBERS, (int, float))
    kind_of_rope = rope.get("rope_type", rope.get("type", "default"))
    if kind_of_rope not in ("default", "linear", "llama3", "yarn"):
        problems.append(f"rope_type={kind_of_rope!r} (default, linear, llama3, yarn)")
    if rope.get("mscale") or rope.get("mscale_all_dim"):
        problems.append("rope scaling with mscale / mscale_all_dim")
    if rope.get("truncate") is False:
        problems.append("rope scaling with truncate=false")
    if rope.get("partial_rotary_factor", raw.get("partial_rotary_factor", 1)) != 1:
        problems.append("partial_rotary_factor != 1")
    if problems:
        raise ValueError("config.json is not supported: " + "; ".join(problems))

    context = raw.get("max_position_embeddings", 2048)
    scaling = None
    if kind_of_rope != "default":
        trained = None
        if kind_of_rope != "linear":
            trained = rope.get("original_max_position_embeddings") or context
        factor = rope.get("factor")
        if factor is None:
            # As transformers does for yarn.
            factor = context / trained if trained else 1.0
        attention = rope.get("attention_factor")
        scaling = RopeScaling(
            rope_type=kind_of_rope,
            factor=float(factor),
            original_max_position_embeddings=trained,
            low_freq_factor=float(rope.get("low_freq_factor", 1.0)),
            high_freq_factor=float(rope.get("high_freq_factor", 4.0)),
            beta_fast=float(rope.get("beta_fast") or 32.0),
            beta_slow=float(rope.get("beta_slow") or 1.0),
            attention_factor=None if attention is None else float(attention),
        )
    governance = raw.get("governance")
    heads = raw["num_attention_heads"]
    # Where config.json leaves head_dim out, HF's Qwen3 takes 128, not hidden / heads.
    head_dim = raw.get("head_dim") or (128 if kind == "qwen3" else None)
    return DecoderConfig(
        model_type=kind,
        vocab_size=raw["vocab_size"],
        hidden_size=raw["hidden_size"],
        intermediate_size=raw["intermediate_size"],
        num_hidden_layers=raw["num_hidden_layers"],
        num_attention_heads=heads,
        num_key_value_heads=raw.get("num_key_value_heads") or heads,
        head_dim=head_dim,
        rms_norm_eps=float(raw.get("rms_norm_eps", 1e-6)),
        rope_theta=float(rope.get("rope_theta", raw.get("rope_theta", 10000.0))),
        rope_scaling=scaling,
        max_position_embeddings=context,
        tie_word_embeddings=bool(raw.get("tie_word_embeddings", False)),
        governance=(None if governance is None else governance_from_json(governance)),
    )


def _wrong_kinds(raw: Mapping[str, Any], names, kinds) -> list[str]:
    """Describe the values that are no numbers; None stands for a default."""
    good = {name: isinstance(raw.get(name, 0), kinds) for name in names}
    return [
        f"{name}={raw[name]!r} (expected a number)"
        for name in names
        if not (good[name] or (raw[name] is None and name not in _NEVER_NONE))
    ]


def config_to_hf(config: DecoderConfig) -> dict[str, Any]:
    """Write the mapping of a ``config.json`` that transformers 4 and 5 read.

    Args:
        config: the configuration.

    Returns:
        A JSON-able mapping; RoPE stands both as ``rope_parameters`` and in the older
        ``rope_theta`` / ``rope_scaling`` form. A governed model's ``model_type`` begins
        with ``governed_``: transformers refuses it.

    Raises:
        ValueError: where the scaling is a bare list of divisors from a GGUF file, for
            which HF has no name.
    """
    scaling = config.rope_scaling
    older = None
    if scaling is not None:
        if scaling.rope_type == "divisors":
            raise ValueError(
                "rope_scaling: the GGUF file stores divisors that are not llama3's "
                "usual ones, and HF has no such rope_type; export to GGUF instead"
            )
        older = {"rope_type": scaling.rope_type, "factor": scaling.factor}
        if scaling.rope_type in ("llama3", "yarn"):
            older["original_max_position_embeddings"] = (
                scaling.original_max_position_embeddings
            )
        if scaling.rope_type == "llama3":
            older["low_freq_factor"] = scaling.low_freq_factor
            older["high_freq_factor"] = scaling.high_freq_factor
        if scaling.rope_type == "yarn":
            older["beta_fast"] = scaling.beta_fast
            older["beta_slow"] = scaling.beta_slow
            if scaling.attention_factor is not None:
                older["attention_factor"] = scaling.attention_factor
    governed: dict[str, Any] = {}
    if config.governance is not None:
        governed = {
            "architectures": [f"Governed{ARCHITECTURES[config.model_type]}"],
            "model_type": _GOVERNED + config.model_type,
            "governance": dataclasses.asdict(config.governance),
        }
    return {
        "architectures": [ARCHITECTURES[config.model_type]],
        "model_type": config.model_type,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": older,
        "rope_parameters": {
            "rope_theta": config.rope_theta,
            **(older or {"rope_type": "default"}),
        },
        "max_position_embeddings": config.max_position_embeddings,
        "tie_word_embeddings": config.tie_word_embeddings,
        "attention_bias": config.qkv_bias,
        "use_cache": True,
        **governed,
    }


def llama3_scaling_from_divisors(divisors: list[float], theta: float) -> RopeScaling:
    """Recognise Llama 3's scaling in the divisors that a GGUF file stores.

    Args:
        divisors: ``head_dim / 2`` positive factors, one a frequency.
        theta: base of the frequencies.

    Returns:
        ``llama3`` with low 1, high 4 and a trained context of 8192 tokens where that
        reproduces every divisor to 1e-5, else ``divisors`` as they are.
    """
    if max(divisors) <= 1:
        return RopeScaling("divisors", divisors=tuple(divisors))
    usual = RopeScaling("llama3", max(divisors), 8192)
    expected = llama3_divisors(usual, 2 * len(divisors), theta)
    close = all(
        math.isclose(a, b, rel_tol=1e-5)
        for a, b in zip(divisors, expected, strict=True)
    )
    if close:
        return usual
    return RopeScaling("divisors", divisors=tuple(divisors))


def llama3_divisors(scaling: RopeScaling, head_dim: int, theta: float) -> list[float]:
    r"""Return the factor by which llama3 scaling divides each rotary frequency.

    With wavelength $\lambda = 2\pi\theta^{2d/H}$ and trained context $C$: 1 where
    $\lambda < C/h$, ``factor`` where $\lambda > C/l$, and between them
    $1/((1-s)/f + s)$ with $s = (C/\lambda - l)/(h - l)$.

    Args:
        scaling: of type ``llama3``.
        head_dim: width of a head, H.
        theta: base of the frequencies.

    Returns:
        ``head_dim / 2`` numbers in [1, factor].
    """
    context = scaling.original_max_position_embeddings
    assert context is not None
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    out = []
    for d in range(head_dim // 2):
        wavelength = 2 * math.pi * theta ** (2 * d / head_dim)
        if wavelength < context / high:
            out.append(1.0)
        elif wavelength > context / low:
            out.append(scaling.factor)
        else:
            s = (context / wavelength - low) / (high - low)
            out.append(1 / ((1 - s) / scaling.factor + s))
    return out
