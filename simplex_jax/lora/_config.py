"""What to adapt, and how strongly: PEFT's words, checked."""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from .._checks import refuse

ALL_LINEAR = "all-linear"

_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_MLP = ("gate_proj", "up_proj", "down_proj")


@dataclasses.dataclass(frozen=True)
class LoRAConfig:
    r"""Say which layers get an adapter, of which rank and strength.

    An adapted layer computes $y = W x + s\, B A x$ with $s = \alpha / r$, or
    $s = \alpha / \sqrt{r}$ with ``use_rslora``. Modules are named as Hugging Face
    names them, ``model.layers.3.self_attn.q_proj``. The defaults are ``simple()``.

    Args:
        r: rank, >= 1.
        lora_alpha: $\alpha$, > 0.
        lora_dropout: probability in [0, 1) that an input of the adapter is zeroed.
        target_modules: names, kept as a tuple, each the whole name of a module or
            its end after a dot (``q_proj``); or one regular expression for the
            whole name; or ``"all-linear"``: every linear layer but the head.
        exclude_modules: names or one regular expression, as above; they win.
        layers_to_transform: indices of the layers to adapt; None: all. Only with
            ``target_modules`` as names.
        rank_pattern: rank of modules whose name, or its end after a dot, matches the
            key, a regular expression; the first key that matches decides.
        alpha_pattern: the same for ``lora_alpha``.
        use_rslora: scale by $1/\sqrt{r}$ instead of $1/r$.
        init_lora_weights: of A: True: uniform in $\pm 1/\sqrt{in}$; ``"gaussian"``:
            N(0, 1/r^2). B starts at 0.
        bias: ``"none"``; biases are never trained.

    Raises:
        ValueError: naming the field, its value and what it may be.
    """

    r: int = 8
    lora_alpha: float | int = 16
    lora_dropout: float | int = 0.05
    target_modules: Sequence[str] | str = ("q_proj", "v_proj")
    exclude_modules: Sequence[str] | str | None = None
    layers_to_transform: Sequence[int] | int | None = None
    rank_pattern: Mapping[str, int] = dataclasses.field(default_factory=dict)
    alpha_pattern: Mapping[str, float | int] = dataclasses.field(default_factory=dict)
    use_rslora: bool = False
    init_lora_weights: bool | Literal["gaussian"] = True
    bias: Literal["none"] = "none"

    def __post_init__(self):
        """Turn lists into tuples and check every field."""
        _check_rank("r", self.r)
        _check_alpha("lora_alpha", self.lora_alpha)
        rate = self.lora_dropout
        if not isinstance(rate, int | float) or not 0 <= rate < 1:
            refuse("lora_dropout", rate, "give a number in [0, 1)")
        self._set("target_modules", _names("target_modules", self.target_modules))
        if self.target_modules == ():
            raise ValueError("target_modules is empty; name at least one module")
        if self.exclude_modules is not None:
            names = _names("exclude_modules", self.exclude_modules)
            self._set("exclude_modules", names or None)
        if self.layers_to_transform is not None:
            self._set("layers_to_transform", _layers(self.layers_to_transform))
            if isinstance(self.target_modules, str):
                raise ValueError(
                    "layers_to_transform works with target_modules as a tuple of "
                    f"names; with target_modules={self.target_modules!r} put the "
                    "layers into the regular expression"
                )
        for field, check in (
            ("rank_pattern", _check_rank),
            ("alpha_pattern", _check_alpha),
        ):
            pattern = getattr(self, field)
            if not isinstance(pattern, Mapping):
                refuse(field, pattern, "give a mapping")
            for key, value in pattern.items():
                _check_regex(field, key)
                check(f"{field}[{key!r}]", value)
            # A copy, because the caller's mapping may change.
            self._set(field, dict(pattern))
        if not isinstance(self.use_rslora, bool):
            refuse("use_rslora", self.use_rslora, "give True or False")
        if self.init_lora_weights is not True and self.init_lora_weights != "gaussian":
            fix = "give True or 'gaussian'"
            refuse("init_lora_weights", self.init_lora_weights, fix)
        if self.bias != "none":
            refuse("bias", self.bias, "give 'none', since biases are not trained here")

    @property
    def layer_indices(self) -> tuple[int, ...] | None:
        """Return ``layers_to_transform`` as the tuple that it is kept as."""
        assert not isinstance(self.layers_to_transform, int)
        layers = self.layers_to_transform
        return None if layers is None else tuple(layers)

    def __hash__(self):
        # Layers hold the configuration as static data, which jit hashes.
        return hash(
            tuple(
                frozenset(value.items()) if isinstance(value, Mapping) else value
                for value in (getattr(self, f.name) for f in dataclasses.fields(self))
            )
        )

    def scaling(self, alpha: float | int, rank: int) -> float:
        """Return the factor on the adapter's output for one module."""
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)

    @classmethod
    def simple(cls) -> "LoRAConfig":
        """Return rank 8 on q and v: classification, routing, short answers."""
        return cls()

    @classmethod
    def standard(cls) -> "LoRAConfig":
        """Return rank 16 on all of attention."""
        return cls(r=16, lora_alpha=32, target_modules=_ATTENTION)

    @classmethod
    def complex(cls) -> "LoRAConfig":
        """Return rank 32, rank-stabilised, on attention and MLP, dropout 0.1."""
        return cls(
            r=32,
            lora_alpha=64,
            lora_dropout=0.1,
            target_modules=_ATTENTION + _MLP,
            use_rslora=True,
        )

    @classmethod
    def code(cls) -> "LoRAConfig":
        """Return ``complex`` with dropout 0.05.

        Source: Simplex's preset, which also trains biases; here they stay frozen, as
        llama's layers have none.
        """
        return dataclasses.replace(cls.complex(), lora_dropout=0.05)

    def _set(self, field: str, value: Any) -> None:
        object.__setattr__(self, field, value)


def _check_rank(field: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        refuse(field, value, "give a whole number of at least 1")


def _check_alpha(field: str, value: object) -> None:
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not (math.isfinite(value) and value > 0)
    ):
        refuse(field, value, "give a finite number above 0")


def _check_regex(field: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        refuse(field, value, "give a string that is not empty")
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(
            f"{field}: {value!r} is not a regular expression: {error}"
        ) from error


def _names(field: str, value: Any) -> tuple[str, ...] | str:
    if isinstance(value, str):
        if value.lower() == ALL_LINEAR and field == "target_modules":
            return ALL_LINEAR
        _check_regex(field, value)
        return value
    if isinstance(value, Mapping) or not isinstance(value, Iterable):
        refuse(field, value, "give a tuple of names or a string")
    names = sorted(value) if isinstance(value, set | frozenset) else value
    names = tuple(names)
    for i, name in enumerate(names):
        if not isinstance(name, str) or not name:
            refuse(f"{field}[{i}]", name, "give a string that is not empty")
    return names


def _layers(value: Any) -> tuple[int, ...]:
    layers = (value,) if isinstance(value, int) else value
    if isinstance(layers, str) or not isinstance(layers, Iterable):
        refuse("layers_to_transform", value, "give indices of layers")
    layers = tuple(layers)
    for layer in layers:
        if not isinstance(layer, int) or isinstance(layer, bool) or layer < 0:
            refuse("layers_to_transform", value, "give indices of layers, from 0")
    if not layers:
        raise ValueError("layers_to_transform is empty; None means all layers")
    return layers
