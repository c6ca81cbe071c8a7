"""Adapter folders as PEFT reads and writes them."""

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array
from safetensors import safe_open
from safetensors.numpy import save_file

from .._checks import refuse
from .._files import new_folder
from ._attach import (
    adapter_layers,
    is_linear,
    place,
    require_adapters,
    site_of,
    survey,
)
from ._config import LoRAConfig
from ._layer import LoRALinear
from ._match import Plan, Site, make_plans, shortest_names

ModelT = TypeVar("ModelT", bound=nnx.Module)

_CONFIG = "adapter_config.json"
_TENSORS = "adapter_model.safetensors"
_PREFIX = "base_model.model."

_OURS = (
    "r",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "rank_pattern",
    "alpha_pattern",
    "use_rslora",
)
# What changes the function that an adapter computes, and has no counterpart here.
_REFUSED = {
    "use_dora": "DoRA's magnitudes",
    "modules_to_save": "whole modules trained beside the adapter",
    "trainable_token_indices": "trained rows of the embedding",
    "lora_bias": "a bias in the adapter",
    "target_parameters": "adapters on bare parameters",
    "layer_replication": "layers used more than once",
    "use_qalora": "QA-LoRA's grouped inputs",
    "alora_invocation_tokens": "adapters that start at a token",
    "use_bdlora": "block-diagonal adapters",
    "arrow_config": "routing between adapters",
    "kasa_config": "KaSA, which changes the base",
    "monteclora_config": "MonteCLoRA's sampled adapters",
}
# Training, bookkeeping, and features of layers that these models do not have.
_IGNORED = {
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "fan_in_fan_out",
    "inference_mode",
    "loftq_config",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
    "velora_config",
}
_PLAIN_INITS = (True, False, None, "gaussian", "eva", "orthogonal")


def save_peft(
    model: nnx.Module,
    folder: str | os.PathLike,
    base_model_name: str | None = None,
) -> None:
    """Write the adapters as a folder that PEFT, vLLM and llama.cpp's tools read.

    ``adapter_config.json`` and ``adapter_model.safetensors``, with the real ranks and
    the dtype of the adapters. The folder is whole or absent. ``target_modules`` is
    written as names; a regular expression or ``all-linear`` is spelt out.

    Args:
        model: with adapters.
        folder: must not exist yet, or be empty.
        base_model_name: Hugging Face name or folder of the base, for PEFT's
            ``AutoPeftModel``.

    Raises:
        FileExistsError: where the folder has something in it.
        ValueError: where there are no adapters, or a file could not say what they
            are: numbers beyond a layer's rank, a scale that the configuration does not
            give.
        FloatingPointError: naming the modules whose adapter is not finite.
    """
    require_adapters(model)
    layers = [layer for _, layer in adapter_layers(model)]
    tensors: dict[str, np.ndarray] = {}
    broken = []
    for layer in layers:
        for name, pair in _outside(layer).items():
            for suffix, array in zip(("A", "B"), pair, strict=True):
                tensors[_key(name, suffix)] = array
            if not all(np.isfinite(a.astype(np.float32)).all() for a in pair):
                broken.append(name)
    if broken:
        raise FloatingPointError(
            f"the adapters of {', '.join(broken)} are not finite; nothing was written"
        )
    config = _config_to_peft(layers, model, base_model_name)
    with new_folder(folder) as scratch:
        text = json.dumps(config, indent=2) + "\n"
        (scratch / _CONFIG).write_text(text, encoding="utf-8")
        save_file(tensors, scratch / _TENSORS, metadata={"format": "pt"})


def load_peft(
    base: ModelT, folder: str | os.PathLike, *, param_dtype=jnp.float32
) -> ModelT:
    """Return the model with the adapters of a PEFT folder.

    Args:
        base: stays as it is; must have no adapters.
        folder: holds ``adapter_config.json`` and ``adapter_model.safetensors``.
        param_dtype: of A and B here, a floating-point dtype.

    Returns:
        A new model, ready to run, to train on or to merge.

    Raises:
        FileNotFoundError: naming the file that is missing.
        ValueError: where the configuration asks for what is not computed here (another
            kind of adapter, biases, DoRA, modules_to_save, trained tokens), or tensors
            are missing, unexpected or misshapen; all of it named at once.
    """
    folder = Path(folder)
    if not jnp.issubdtype(param_dtype, jnp.floating):
        refuse("param_dtype", param_dtype, "give a floating dtype")
    sites, others = survey(base)
    raw = _read_json(folder / _CONFIG)
    found = _shapes(folder / _TENSORS)
    problems = _refusals(raw)
    config, plans = None, {}
    try:
        config = _config_from_peft(raw)
        plans = make_plans(sites, others, config, strict=False)
    except (TypeError, ValueError) as error:
        problems.append(str(error))
    if plans:
        problems += _misfits(_expected(sites, plans), found)
    if problems or config is None:
        shown = "\n  ".join(problems[:40])
        more = f"\n  ... and {len(problems) - 40} more" if len(problems) > 40 else ""
        raise ValueError(f"{folder} cannot be loaded:\n  {shown}{more}")
    _warn_of_unknown(folder, raw)
    with safe_open(folder / _TENSORS, framework="numpy") as file:

        def fetch(site: Site, plan: Plan) -> tuple[Array, Array]:
            count, largest = len(plan.ranks), max(plan.ranks)
            a = np.zeros((count, site.in_features, largest), param_dtype)
            b = np.zeros((count, largest, site.out_features), param_dtype)
            for i, (name, rank) in enumerate(zip(site.names, plan.ranks, strict=True)):
                if rank:
                    a[i, :, :rank] = file.get_tensor(_key(name, "A")).T
                    b[i, :rank] = file.get_tensor(_key(name, "B")).T
            if site.depth is None:
                a, b = a[0], b[0]
            # Copies, because JAX may otherwise keep the NumPy buffers for ever.
            return jnp.array(a, copy=True), jnp.array(b, copy=True)

        return place(base, sites, plans, config, fetch)


def _outside(layer: LoRALinear) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    site = site_of(layer.base)
    a, b = np.asarray(layer.lora_a[...]), np.asarray(layer.lora_b[...])
    scales = np.asarray(layer.scale[...])
    if site.depth is None:
        a, b, scales = a[None], b[None], scales[None]
    plans = make_plans([site], [], layer.config, strict=False)
    plan = plans.get(site.hf_name)
    if plan is None or plan.ranks != layer.ranks:
        raise ValueError(
            f"{site.hf_name}: ranks {layer.ranks} are not those of the layer's "
            f"configuration; attach with the configuration that describes them"
        )
    pairs = {}
    for i, (name, rank) in enumerate(zip(site.names, layer.ranks, strict=True)):
        if np.any(a[i, :, rank:]) or np.any(b[i, rank:]):
            raise ValueError(
                f"{name}: numbers beyond its rank {rank}, where lora.attach put zeros; "
                "a file cannot hold them"
            )
        if scales[i] != scales.dtype.type(plan.scales[i]):
            raise ValueError(
                f"{name}: scale {scales[i]} is not the configuration's "
                f"{plan.scales[i]}, and PEFT computes its own; change lora_alpha"
            )
        if rank:
            pairs[name] = (
                np.ascontiguousarray(a[i, :, :rank].T),
                np.ascontiguousarray(b[i, :rank].T),
            )
    return pairs


def _config_to_peft(
    layers: list[LoRALinear], model: nnx.Module, base_model_name: str | None
) -> dict[str, Any]:
    config = layers[0].config
    if any(layer.config != config for layer in layers):
        raise ValueError(
            "the adapters come from different configurations; a PEFT folder has one"
        )
    targets = config.target_modules
    if isinstance(targets, str):
        chosen = [
            name
            for layer in layers
            for name, rank in zip(site_of(layer.base).names, layer.ranks, strict=True)
            if rank
        ]
        known = [
            name
            for _, module in nnx.iter_modules(model)
            if is_linear(module)
            for name in site_of(module).names
        ]
        targets = shortest_names(chosen, known)
    return {
        "task_type": "CAUSAL_LM",
        "peft_type": "LORA",
        "base_model_name_or_path": base_model_name,
        "inference_mode": True,
        "r": config.r,
        "lora_alpha": config.lora_alpha,
        "lora_dropout": config.lora_dropout,
        "target_modules": _jsonable(targets),
        "exclude_modules": _jsonable(config.exclude_modules),
        "layers_to_transform": _jsonable(config.layer_indices),
        "layers_pattern": None,
        "rank_pattern": dict(config.rank_pattern),
        "alpha_pattern": dict(config.alpha_pattern),
        "use_rslora": config.use_rslora,
        "init_lora_weights": config.init_lora_weights,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_dora": False,
        "lora_bias": False,
        "modules_to_save": None,
        "trainable_token_indices": None,
    }


def _config_from_peft(raw: Mapping[str, Any]) -> LoRAConfig:
    fields = {name: raw[name] for name in _OURS if raw.get(name) is not None}
    for name in ("r", "lora_alpha", "target_modules"):
        if name not in fields:
            raise ValueError(f"missing key {name!r}")
    if fields.get("layers_to_transform") == []:
        del fields["layers_to_transform"]
    if raw.get("init_lora_weights") == "gaussian":
        fields["init_lora_weights"] = "gaussian"
    # PEFT's own default; ours is that of a preset.
    fields.setdefault("lora_dropout", 0.0)
    return LoRAConfig(**fields)


def _refusals(raw: Mapping[str, Any]) -> list[str]:
    problems = []
    if raw.get("peft_type") != "LORA":
        problems.append(f"peft_type={raw.get('peft_type')!r}; only 'LORA' is read")
    if raw.get("bias", "none") != "none":
        problems.append(f"bias={raw['bias']!r}: trained biases are not supported")
    problems += [
        f"{name}={raw[name]!r} ({what}) is not supported"
        for name, what in _REFUSED.items()
        if raw.get(name) not in (None, False, [], {})
    ]
    init = raw.get("init_lora_weights")
    if init not in _PLAIN_INITS:
        problems.append(
            f"init_lora_weights={init!r} changes the base; convert the adapter with "
            "path_initial_model_for_weight_conversion when saving it in PEFT"
        )
    if raw.get("layers_pattern") not in (None, "", [], "layers", ["layers"]):
        problems.append(
            f"layers_pattern={raw['layers_pattern']!r}; only 'layers' is supported"
        )
    return problems


def _warn_of_unknown(folder: Path, raw: Mapping[str, Any]) -> None:
    known = {*_OURS, *_REFUSED, *_IGNORED}
    known |= {"peft_type", "bias", "init_lora_weights", "layers_pattern"}
    unknown = [
        f"{name}={value!r}"
        for name, value in raw.items()
        if name not in known and value not in (None, False, [], {})
    ]
    if unknown:
        warnings.warn(
            f"{folder / _CONFIG}: unknown keys {', '.join(unknown)} are ignored; the "
            "adapter may have meant something else by them",
            stacklevel=3,
        )


def _expected(
    sites: list[Site], plans: Mapping[str, Plan]
) -> dict[str, tuple[int, ...]]:
    expected = {}
    for site in sites:
        if site.hf_name in plans:
            ranks = plans[site.hf_name].ranks
            for name, rank in zip(site.names, ranks, strict=True):
                if rank:
                    expected[_key(name, "A")] = (rank, site.in_features)
                    expected[_key(name, "B")] = (site.out_features, rank)
    return expected


def _misfits(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
) -> list[str]:
    return [
        *(f"missing {name} {s}" for name, s in expected.items() if name not in found),
        *(f"unexpected {name}" for name in found if name not in expected),
        *(
            f"{name} has shape {found[name]}, expected {shape}"
            for name, shape in expected.items()
            if name in found and found[name] != shape
        ),
    ]


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    if not path.exists():
        hint = ""
        if path.with_suffix(".bin").exists():
            hint = (
                "; adapter_model.bin is a pickle, which can run code and is not read: "
                "save it again with PEFT's safe_serialization=True"
            )
        raise FileNotFoundError(f"{path} is missing{hint}")
    try:
        with safe_open(path, framework="numpy") as file:
            return {
                name: tuple(file.get_slice(name).get_shape())
                for name in file.keys()  # safe_open is no mapping
            }
    except Exception as error:
        raise ValueError(f"{path}: not a readable safetensors file: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; a PEFT folder has it")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(raw, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(raw).__name__}")
    return raw


def _key(name: str, part: str) -> str:
    return f"{_PREFIX}{name}.lora_{part}.weight"


def _jsonable(value: Sequence | str | None) -> list | str | None:
    return value if value is None or isinstance(value, str) else list(value)
