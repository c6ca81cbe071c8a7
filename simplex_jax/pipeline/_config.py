"""What a run is told: sections in PEFT's and TrainingArguments' words, checked."""

import contextlib
import dataclasses
import difflib
import os
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import yaml

from .. import gguf
from .._checks import at_least, one_of, refuse, within
from ..lora import LoRAConfig
from ..models import DecoderConfig
from ..train import TrainingConfig


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Say what a model is trained and judged on.

    Args:
        file: the user's own examples, JSONL, or with the task ``lm`` a folder of
            ``.txt`` and ``.md`` files, one a document; None: the specialist's
            generator.
        train_examples: how many to generate, >= 1.
        validation_examples: how many more, from the templates of training, to evaluate
            on while training; 0: none.
        heldout_examples: how many to generate from templates that training never shows,
            >= 1.
        heldout_fraction: share of a file's prompts, or a folder's documents, to hold
            out, in (0, 1).
        validation_fraction: share of the others to evaluate on while training, in
            [0, 1).
        seed: of generating and splitting.
        strict: whether an example that is too long is an error.

    Raises:
        ValueError: naming the field, its value and what it may be.
    """

    file: str | None = None
    train_examples: int = 2000
    validation_examples: int = 64
    heldout_examples: int = 416
    heldout_fraction: float = 0.1
    validation_fraction: float = 0.05
    seed: int = 0
    strict: bool = False

    def __post_init__(self):
        """Check every range."""
        for name, least in (
            ("train_examples", 1),
            ("validation_examples", 0),
            ("heldout_examples", 1),
        ):
            at_least(name, getattr(self, name), least)
        within("heldout_fraction", self.heldout_fraction, "(0, 1)")
        within("validation_fraction", self.validation_fraction, "[0, 1)")


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """Say what file comes out.

    Args:
        type: a key of ``gguf.FILE_TYPES``.
        name: of the model, in the file and as its name; None: the run folder's.

    Raises:
        ValueError: where there is no such type, or the name is no file name.
    """

    type: str = "q4_k_m"
    name: str | None = None

    def __post_init__(self):
        """Check type and name."""
        one_of("type", self.type, gguf.FILE_TYPES)
        if self.name is not None and (not self.name or set(self.name) & set('/\\"\n')):
            refuse("name", self.name, "give a plain file name")


SMALL_MODEL = DecoderConfig(
    model_type="llama",
    vocab_size=2048,
    hidden_size=128,
    intermediate_size=384,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=512,
    tie_word_embeddings=True,
)
"""What is trained from scratch where nothing else is said: a million parameters."""


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """All that decides a run.

    Args:
        specialist: a key of ``specialists.CATALOG``; None with ``data.file``.
        task: None: answers, of a specialist or of the user's own examples. ``lm``: the
            next token of the plain text below the folder ``data.file``.
        base: as for ``models.load``; None: with the task ``lm`` a model from scratch,
            otherwise smollm2-135m.
        model: what is trained from scratch; None: ``SMALL_MODEL``. Its ``vocab_size``
            is the most tokens that its tokenizer learns.
        lora: which layers get adapters; not looked at with ``training.full``.
        training: how to train.
        data: on what.
        export: what file comes out.

    Raises:
        ValueError: where there is no specialist and no file, or both; where ``model``
            has no use, or adapters would have no base.
    """

    specialist: str | None = None
    task: Literal["lm"] | None = None
    base: str | None = None
    model: DecoderConfig | None = None
    lora: LoRAConfig = dataclasses.field(default_factory=LoRAConfig.standard)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    export: ExportConfig = dataclasses.field(default_factory=ExportConfig)

    def __post_init__(self):
        """Check that there is one source of data and one of weights; fill them in."""
        if self.task == "lm":
            if self.specialist is not None or self.data.file is None:
                raise ValueError(
                    f"task lm: specialist is {self.specialist!r} and data.file is "
                    f"{self.data.file!r}; give a folder of plain text alone, as --data"
                )
        elif (self.specialist is None) == (self.data.file is None):
            raise ValueError(
                f"specialist is {self.specialist!r} and data.file is "
                f"{self.data.file!r}; give one of the two"
            )
        if self.task == "lm" and self.base is None:
            if not self.training.full:
                raise ValueError(
                    "training.full is False, and a model from scratch has no base for "
                    "adapters; give --full, or a base"
                )
            object.__setattr__(self, "model", self.model or SMALL_MODEL)
            return
        if self.model is not None:
            raise ValueError(
                "model.* is for training from scratch, which is --task lm without a "
                "base; leave it out"
            )
        object.__setattr__(self, "base", self.base or "smollm2-135m")

    def to_json(self) -> dict[str, Any]:
        """Return the configuration as JSON values, for ``make_config``."""
        values = dataclasses.asdict(self)
        # JSON has lists only.
        values["lora"] = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in values["lora"].items()
        }
        return values


LOCAL_TEST: Mapping[str, Mapping[str, Any]] = {
    "lora": {"r": 4, "target_modules": ["q_proj", "v_proj"]},
    "training": {
        "max_steps": 4,
        "per_device_train_batch_size": 1,
        "max_length": 192,
        "eval_steps": 2,
    },
    "data": {"train_examples": 32, "validation_examples": 4, "heldout_examples": 16},
}
"""Settings of a run that tries everything and learns nothing."""

_SECTIONS: Mapping[str, Any] = {
    "model": DecoderConfig,
    "lora": LoRAConfig,
    "training": TrainingConfig,
    "data": DataConfig,
    "export": ExportConfig,
}
_DEFAULTS = {"lora": LoRAConfig.standard(), "model": SMALL_MODEL}
_REFUSED = {
    "training.tf32": (
        "is torch's switch; set the environment variable "
        "JAX_DEFAULT_MATMUL_PRECISION=tensorfloat32 instead"
    ),
    "training.fp16": "needs loss scaling, which is not done here; use training.bf16",
    "training.report_to": (
        "is not needed: metrics.jsonl is always written, TensorBoard's events where "
        "tensorboard is installed"
    ),
    "training.output_dir": "is given as --out",
}
_OPTIMIZERS = {
    "adamw_8bit": (
        "8-bit moments save little where only adapters train; use training.optim=adamw"
    )
}


def load_yaml(path: str | os.PathLike) -> dict[str, Any]:
    """Read a configuration file.

    Args:
        path: YAML, a mapping of sections.

    Returns:
        The mapping, for ``make_config``.

    Raises:
        ValueError: where it is not YAML, not a mapping, or a key occurs twice.
        OSError: where it cannot be read.
    """
    try:
        with open(path, encoding="utf-8") as file:
            values = yaml.load(file, _Loader)
    # YAML's impossible dates are plain ValueErrors, as is text that is not UTF-8.
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{os.fspath(path)}: not YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(
            f"{os.fspath(path)}: holds {type(values).__name__}; write sections, "
            "such as 'training:'"
        )
    return values


def assignments(texts: Iterable[str]) -> dict[str, Any]:
    """Turn ``section.key=value`` into a mapping of sections.

    Args:
        texts: such as ``training.max_steps=300``; values are YAML.

    Returns:
        The mapping, for ``make_config``.

    Raises:
        ValueError: where a text is of another form.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        *sections, key = name.strip().split(".")
        if not equals or not key or not all(sections):
            raise ValueError(
                f"--set {text!r}: write section.key=value, training.max_steps=300"
            )
        try:
            parsed = yaml.load(value, _Loader)
        except (yaml.YAMLError, ValueError) as error:
            raise ValueError(f"--set {text!r}: {value!r} is not YAML") from error
        target = values
        for section in sections:
            target = target.setdefault(section, {})
            if not isinstance(target, dict):
                raise ValueError(f"--set {text!r}: {section} was set to a value before")
        target[key] = parsed
    return values


def make_config(*layers: Mapping[str, Any]) -> RunConfig:
    """Build a configuration from mappings of sections.

    Args:
        *layers: later ones override earlier ones, key by key.

    Returns:
        The configuration; what no layer names has its default.

    Raises:
        ValueError: naming an unknown key and the nearest known one, a key that means
            nothing here and what to use instead, or a value and what it may be.
    """
    sections: dict[str, dict[str, Any]] = {}
    top: dict[str, Any] = {}
    names = [field.name for field in dataclasses.fields(RunConfig)]
    for layer in layers:
        for key, value in layer.items():
            _require_known(str(key), names, "")
            if key not in _SECTIONS:
                top[key] = value
            elif isinstance(value, Mapping):
                sections[key] = _merged(sections.get(key, {}), value)
            elif value is not None:
                raise ValueError(f"{key} is {value!r}; it is a section, with keys")
    top = {key: _coerced(RunConfig, key, value, key) for key, value in top.items()}
    for name, values in sections.items():
        optim = str(values.get("optim"))
        if name == "training" and optim in _OPTIMIZERS:
            raise ValueError(f"training.optim={optim}: {_OPTIMIZERS[optim]}")
        top[name] = _built(_SECTIONS[name], values, name, _DEFAULTS.get(name))
    return RunConfig(**top)


def differences(a: Any, b: Any, where: str = "") -> list[str]:
    """Return what differs between two configurations in JSON, a line a key.

    Args:
        a: the older one.
        b: the newer one.
        where: name of what is compared.

    Returns:
        Lines such as ``training.seed: 42 -> 43``.
    """
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        lines = []
        for key in dict.fromkeys([*a, *b]):
            name = f"{where}.{key}" if where else str(key)
            lines += differences(a.get(key), b.get(key), name)
        return lines
    return [] if a == b else [f"{where}: {a!r} -> {b!r}"]


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, strict about keys that occur twice."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {twice!r} occurs twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


def _built(
    kind: type, values: Mapping[Any, Any], name: str, default: Any = None
) -> Any:
    """Return a dataclass of checked values, the others as in ``default``."""
    known = [field.name for field in dataclasses.fields(kind)]
    for key in values:
        _require_known(str(key), known, f"{name}.")
    kept = {} if default is None else {key: getattr(default, key) for key in known}
    if kind is DecoderConfig:
        # Derived from the other sizes where it is not among the values.
        kept["head_dim"] = None
    changes = {
        key: _coerced(kind, key, value, f"{name}.{key}")
        for key, value in values.items()
    }
    try:
        return kind(**kept | changes)
    except (ValueError, TypeError) as error:
        # Some name their own section themselves.
        text = str(error).removeprefix(f"{name.rpartition('.')[2]}.")
        raise ValueError(f"{name}.{text}") from error


def _merged(older: Mapping[Any, Any], newer: Mapping[Any, Any]) -> dict[Any, Any]:
    both = dict(older)
    for key, value in newer.items():
        known = both.get(key)
        if isinstance(value, Mapping) and isinstance(known, Mapping):
            value = _merged(known, value)
        both[key] = value
    return both


def _require_known(key: str, known: Iterable[str], section: str) -> None:
    name = f"{section}{key}"
    if name in _REFUSED:
        raise ValueError(f"{name} {_REFUSED[name]}")
    if key in known:
        return
    # A key may be right and its section missing or wrong.
    homes: dict[str, str] = {}
    for home, kind in _SECTIONS.items():
        for field in dataclasses.fields(kind):
            homes.setdefault(field.name, f"{home}.{field.name}")
    here = {k: section + k for k in known}
    near = [homes[key]] if key in homes else []
    for names in (here, homes):
        near += [names[k] for k in difflib.get_close_matches(key, names, n=1)]
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(f"unknown key {name}{hint}")


def _coerced(owner: type, key: str, value: Any, name: str) -> Any:
    """Return a value that fits a field's annotation; the field's owner checks more."""
    annotation = typing.get_type_hints(owner)[key]
    union = typing.get_origin(annotation) in (types.UnionType, typing.Union)
    kinds = typing.get_args(annotation) if union else (annotation,)
    texts = [kind for kind in kinds if typing.get_origin(kind) is Literal]
    choices = [text for kind in texts for text in typing.get_args(kind)]
    wanted = tuple(typing.get_origin(k) or k for k in kinds if k not in texts)
    for kind in wanted:
        made = isinstance(kind, type) and dataclasses.is_dataclass(kind)
        if made and isinstance(value, Mapping):
            return _built(kind, value, name)
    if tuple in wanted and isinstance(value, list):
        value = tuple(value)
    if float in wanted and isinstance(value, str):
        # YAML reads 2e-4 as a text.
        with contextlib.suppress(ValueError):
            value = float(value)
    if wanted == (float,) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if value in choices or (
        isinstance(value, wanted) and (not isinstance(value, bool) or bool in wanted)
    ):
        return value
    names = ["nothing" if k is types.NoneType else k.__name__ for k in wanted]
    names += map(repr, choices)
    raise ValueError(f"{name} is {value!r}; give {' or '.join(names)}")
