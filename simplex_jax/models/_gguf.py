"""GGUF files of whole models: configuration and weights, in and out."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from .. import gguf
from ..text import Tokenizer
from ._config import (
    ARCHITECTURES,
    DecoderConfig,
    RopeScaling,
    llama3_divisors,
    llama3_scaling_from_divisors,
)
from ._decoder import Decoder
from ._hf import abstract_decoder
from ._outside import (
    OutsideTensor,
    check_tensors,
    fill_from_outside,
    interleave,
    outside_tensors,
    parameter_count,
    read_outside,
    uninterleave,
)
from ._rope import yarn_attention_factor

_ROPE_FREQS = "rope_freqs.weight"


def load_gguf(
    path: str | os.PathLike, *, dtype=jnp.float32, remat: str = "projections"
) -> tuple[Decoder, Tokenizer]:
    """Load a model and its tokenizer from a GGUF file of any block type.

    Args:
        path: the file.
        dtype: of the Variables; blocks are decoded to float32 first.
        remat: see ``Decoder``.

    Returns:
        The model and the tokenizer.

    Raises:
        gguf.GGUFError: where the bytes are not a valid file.
        ValueError: on an unsupported architecture, tensors that do not fit it, or a
            vocabulary that does not fit the embedding.
    """
    with gguf.open(path) as file:
        config = config_from_gguf(file)
        model = abstract_decoder(config, dtype=dtype, remat=remat)
        tensors = outside_tensors(model)
        found = {name: info.shape for name, info in file.tensors.items()}
        found.pop(_ROPE_FREQS, None)
        check_tensors(str(path), {t.gguf_name: t.shape for t in tensors}, found)
        tokenizer = Tokenizer.from_gguf(file.metadata)
        if tokenizer.vocab_size != config.vocab_size:
            raise ValueError(
                f"{path}: the vocabulary has {tokenizer.vocab_size} tokens, but "
                f"token_embd.weight has {config.vocab_size} rows; they must be equal"
            )

        def fetch(tensor: OutsideTensor) -> np.ndarray:
            values = file.tensors[tensor.gguf_name].dequantize()
            if config.model_type == "llama" and tensor.rope_heads:
                values = uninterleave(values, tensor.rope_heads)
            return values

        return fill_from_outside(model, fetch, dtype), tokenizer


def save_gguf(
    model: Decoder,
    tokenizer: Tokenizer,
    path: str | os.PathLike,
    file_type: str = "q8_0",
    *,
    name: str | None = None,
    metadata: Mapping[str, gguf.MetadataValue] | None = None,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Write a model and its tokenizer as one GGUF file that llama.cpp runs.

    One tensor at a time is converted and written; the file appears under its name
    only when it is complete.

    Args:
        model: the weights.
        tokenizer: with as many tokens as the embedding has rows.
        path: of the file; its folder is made, an existing file replaced at the end.
        file_type: a key of ``gguf.FILE_TYPES``.
        name: ``general.name``; None: the file's stem.
        metadata: further ``general.*`` keys, such as ``general.license``,
            ``general.tags`` or ``general.sampling.temp``, in NumPy types.
        progress: called with the share of elements written so far, in (0, 1].

    Raises:
        ValueError: on an unknown file type, a ``metadata`` key that is not
            ``general.*`` or is written anyway, a tokenizer that does not fit, a
            configuration that llama.cpp cannot express, or non-finite weights.
        OSError: where the disk is full or the folder cannot be written.
    """
    config = model.config
    architecture: dict[str, gguf.MetadataValue] = {
        "general.architecture": config.model_type
    }
    described = architecture | config_to_gguf(config)
    tensors = outside_tensors(model)
    shapes = {tensor.gguf_name: tensor.shape for tensor in tensors}
    types = gguf.tensor_types(shapes, file_type, described)
    if tokenizer.vocab_size != config.vocab_size:
        raise ValueError(
            f"tokenizer has {tokenizer.vocab_size} tokens, the embedding has "
            f"{config.vocab_size} rows; load it with vocab_size={config.vocab_size}"
        )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    if name is None:
        name = os.path.splitext(os.path.basename(path))[0]
    size = parameter_count(model)
    get = read_outside(model)

    def source(tensor: OutsideTensor) -> gguf.TensorSource:
        def load() -> np.ndarray:
            values = get(tensor)
            if not np.isfinite(values).all():
                raise ValueError(
                    f"{tensor.gguf_name} has non-finite numbers; nothing was written"
                )
            if config.model_type == "llama" and tensor.rope_heads:
                values = interleave(values, tensor.rope_heads)
            return values

        kind = types.get(tensor.gguf_name, gguf.GGMLType.F32)
        return gguf.TensorSource(tensor.gguf_name, tensor.shape, kind, load)

    sources = [source(tensor) for tensor in tensors]
    divisors = _divisors(config)
    if divisors is not None:
        array = np.asarray(divisors, np.float32)
        sources.insert(
            0,
            gguf.TensorSource(
                _ROPE_FREQS, array.shape, gguf.GGMLType.F32, lambda: array
            ),
        )
    written = architecture | {
        "general.type": "model",
        "general.name": name,
        "general.size_label": _size_label(size),
        "general.file_type": np.uint32(gguf.FILE_TYPES[file_type]),
    }
    if any(gguf.block_size(s.type)[0] > 1 for s in sources):
        written["general.quantization_version"] = np.uint32(2)
    extra = dict(metadata or {})
    refused = [k for k in extra if k in written or not k.startswith("general.")]
    if refused:
        raise ValueError(
            f"metadata: {', '.join(refused)} cannot be given; it takes general.* keys "
            f"other than {', '.join(written)}"
        )
    written |= extra | described | tokenizer.gguf_metadata()
    gguf.write(path, written, sources, progress=progress)


def config_from_gguf(file: gguf.GGUFFile) -> DecoderConfig:
    """Read the configuration that a GGUF file's metadata and tensors describe.

    Args:
        file: an open file.

    Returns:
        The configuration; the head is tied where the file has no ``output.weight``.

    Raises:
        ValueError: on an unknown architecture, a missing key, or a feature that this
            decoder does not compute.
    """
    metadata = file.metadata
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        raise ValueError(
            f"{file.path}: general.architecture {architecture!r} is not supported; "
            f"supported: {', '.join(ARCHITECTURES)}"
        )

    def number(key: str, default: float | None = None) -> float:
        return _number(metadata, f"{architecture}.{key}", default, file.path)

    def count(key: str, default: int | None = None) -> int:
        value = number(key, None if default is None else float(default))
        if not value.is_integer():
            raise ValueError(
                f"{file.path}: metadata key {architecture}.{key} is {value}; "
                "expected a whole number"
            )
        return int(value)

    heads = count("attention.head_count")
    hidden = count("embedding_length")
    head_dim = count("attention.key_length", hidden // max(heads, 1))
    for key in ("attention.value_length", "rope.dimension_count"):
        if count(key, head_dim) != head_dim:
            raise ValueError(
                f"{file.path}: {architecture}.{key} differs from the head width "
                f"{head_dim}; such models are not supported"
            )
    if count("expert_count", 0):
        raise ValueError(f"{file.path}: mixture-of-experts models are not supported")
    if "token_embd.weight" not in file.tensors:
        raise ValueError(f"{file.path}: token_embd.weight is missing")
    depth = count("block_count")
    if depth > len(file.tensors):
        # Refused here, before a list of that many tensors is made.
        raise ValueError(
            f"{file.path}: {architecture}.block_count is {depth}, but the file has "
            f"{len(file.tensors)} tensors"
        )
    theta = number("rope.freq_base", 10000.0)
    context = count("context_length")
    return DecoderConfig(
        model_type=architecture,
        vocab_size=file.tensors["token_embd.weight"].shape[0],
        hidden_size=hidden,
        intermediate_size=count("feed_forward_length"),
        num_hidden_layers=depth,
        num_attention_heads=heads,
        num_key_value_heads=count("attention.head_count_kv", heads),
        head_dim=head_dim,
        rms_norm_eps=number("attention.layer_norm_rms_epsilon"),
        rope_theta=theta,
        rope_scaling=_scaling_from_gguf(file, number, theta, context, head_dim),
        max_position_embeddings=context,
        tie_word_embeddings="output.weight" not in file.tensors,
    )


def config_to_gguf(config: DecoderConfig) -> dict[str, gguf.MetadataValue]:
    """Return the ``{architecture}.*`` metadata of a configuration.

    Args:
        config: the configuration.

    Returns:
        Keys and values typed as llama.cpp expects.

    Raises:
        ValueError: where llama.cpp could not run the rotary scaling, or the
            governance heads.
    """
    if config.governance is not None:
        named = ", ".join(
            f"{name}={value}"
            for name, value in dataclasses.asdict(config.governance).items()
        )
        raise ValueError(
            f"governance ({named}): llama.cpp has no such heads, and without them the "
            "file would be another model; save_hf keeps them"
        )
    u32, f32 = np.uint32, np.float32
    keys: dict[str, gguf.MetadataValue] = {
        "context_length": u32(config.max_position_embeddings),
        "embedding_length": u32(config.hidden_size),
        "block_count": u32(config.num_hidden_layers),
        "feed_forward_length": u32(config.intermediate_size),
        "attention.head_count": u32(config.num_attention_heads),
        "attention.head_count_kv": u32(config.num_key_value_heads),
        "attention.key_length": u32(config.head_width),
        "attention.value_length": u32(config.head_width),
        "attention.layer_norm_rms_epsilon": f32(config.rms_norm_eps),
        "rope.freq_base": f32(config.rope_theta),
        "rope.dimension_count": u32(config.head_width),
        "vocab_size": u32(config.vocab_size),
    }
    scaling = config.rope_scaling
    if scaling is not None and scaling.rope_type in ("linear", "yarn"):
        keys["rope.scaling.type"] = scaling.rope_type
        keys["rope.scaling.factor"] = f32(scaling.factor)
    if scaling is not None and scaling.rope_type == "yarn":
        trained = scaling.original_max_position_embeddings
        assert trained is not None
        if (scaling.beta_fast, scaling.beta_slow) != (32.0, 1.0):
            raise ValueError(
                f"rope scaling with beta_fast={scaling.beta_fast}, beta_slow="
                f"{scaling.beta_slow}: llama.cpp runs {config.model_type} with 32 and "
                "1, whatever the file says"
            )
        keys["rope.scaling.original_context_length"] = u32(trained)
        keys["rope.scaling.yarn_beta_fast"] = f32(scaling.beta_fast)
        keys["rope.scaling.yarn_beta_slow"] = f32(scaling.beta_slow)
        if scaling.attention_factor is not None:
            # llama.cpp multiplies this by YaRN's own default.
            relative = scaling.attention_factor / yarn_attention_factor(scaling.factor)
            keys["rope.scaling.attn_factor"] = f32(relative)
    return {f"{config.model_type}.{key}": value for key, value in keys.items()}


def _scaling_from_gguf(
    file, number, theta: float, context: int, head_dim: int
) -> RopeScaling | None:
    architecture = file.metadata["general.architecture"]
    kind = file.metadata.get(f"{architecture}.rope.scaling.type", "none")
    if _ROPE_FREQS in file.tensors:
        divisors = file.tensors[_ROPE_FREQS].dequantize()
        good = np.isfinite(divisors) & (divisors > 0)
        if divisors.shape != (head_dim // 2,) or not good.all():
            raise ValueError(
                f"{file.path}: {_ROPE_FREQS} must be {head_dim // 2} positive numbers, "
                f"half the head width; got {divisors.tolist()}"
            )
        return llama3_scaling_from_divisors(divisors.tolist(), theta)
    factor = number("rope.scaling.factor", number("rope.scale_linear", 1.0))
    if kind == "none" or (kind == "linear" and factor == 1):
        return None
    if kind == "linear":
        return RopeScaling("linear", factor)
    if kind != "yarn":
        raise ValueError(
            f"{file.path}: rope.scaling.type {kind!r} is not supported; supported: "
            "none, linear, yarn"
        )
    relative = number("rope.scaling.attn_factor", 1.0)
    attention = None
    if relative != 1:
        default = yarn_attention_factor(factor)
        attention = relative * default
        # The file holds a rounded quotient; a short number that gives it is meant.
        short = float(f"{attention:.6g}")
        if np.float32(short / default) == np.float32(relative):
            attention = short
    return RopeScaling(
        "yarn",
        factor,
        int(number("rope.scaling.original_context_length", float(context))),
        beta_fast=number("rope.scaling.yarn_beta_fast", 32.0),
        beta_slow=number("rope.scaling.yarn_beta_slow", 1.0),
        attention_factor=attention,
    )


def _divisors(config: DecoderConfig) -> list[float] | None:
    scaling = config.rope_scaling
    if scaling is None or scaling.rope_type not in ("llama3", "divisors"):
        return None
    if config.model_type != "llama":
        raise ValueError(
            f"rope_type {scaling.rope_type!r} on {config.model_type}: llama.cpp reads "
            "per-frequency divisors for llama only"
        )
    if scaling.rope_type == "divisors":
        return list(scaling.divisors)
    return llama3_divisors(scaling, config.head_width, config.rope_theta)


def _number(
    metadata: Mapping[str, gguf.MetadataValue],
    key: str,
    default: float | None,
    path: str,
) -> float:
    value = metadata.get(key, default)
    if isinstance(value, np.ndarray) and value.size and (value == value[0]).all():
        # One entry a layer, all alike, is the same as one number.
        value = value[0]
    array = np.asarray(value)
    if array.ndim or array.dtype.kind not in "iuf":
        problem = "is missing" if value is None else f"is {type(value).__name__}"
        raise ValueError(f"{path}: metadata key {key} {problem}; expected a number")
    number = float(array)
    return _shortest_float(number) if array.dtype == np.float32 else number


def _shortest_float(value: float) -> float:
    # float32 1e-5 read back as a Python float is 9.999999747378752e-06.
    return float(str(np.float32(value)))


def _size_label(count: int) -> str:
    for unit, size in (("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if count >= size:
            scaled = count / size
            return f"{scaled:.1f}{unit}" if scaled < 10 else f"{scaled:.0f}{unit}"
    return str(count)
