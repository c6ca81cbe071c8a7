"""Hugging Face folders: config.json, sharded safetensors, tokenizer."""

import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors import safe_open
from safetensors.numpy import save_file

from .._files import new_folder
from ..text import Tokenizer
from ._config import config_from_hf, config_to_hf
from ._decoder import Decoder
from ._outside import (
    OutsideTensor,
    check_tensors,
    fill_from_outside,
    outside_tensors,
    read_outside,
)

MAX_SHARD_BYTES = 2 * 2**30
_INDEX = "model.safetensors.index.json"


def load_hf(
    folder: str | os.PathLike, *, dtype=jnp.float32, remat: str = "projections"
) -> tuple[Decoder, Tokenizer]:
    """Load a model and its tokenizer from a Hugging Face folder.

    Args:
        folder: holds ``config.json``, ``tokenizer.json`` and safetensors, in one file
            or in shards with an index.
        dtype: of the Variables.
        remat: see ``Decoder``.

    Returns:
        The model and the tokenizer.

    Raises:
        FileNotFoundError: naming the file that is missing.
        ValueError: on an unsupported configuration, or tensors that do not fit it, all
            of them named at once.
    """
    folder = Path(folder)
    config = config_from_hf(_read_json(folder / "config.json"))
    shapes, files = _index_tensors(folder)
    if config.num_hidden_layers > len(shapes):
        # Refused here, before a list of that many tensors is made.
        raise ValueError(
            f"{folder}: num_hidden_layers is {config.num_hidden_layers}, but there are "
            f"{len(shapes)} tensors"
        )
    model = abstract_decoder(config, dtype=dtype, remat=remat)
    tensors = outside_tensors(model)
    expected = {t.hf_name: t.shape for t in tensors}
    ignored = {"lm_head.weight"} if config.tie_word_embeddings else set()
    found = {
        name: shape
        for name, shape in shapes.items()
        if name not in ignored and not name.endswith("rotary_emb.inv_freq")
    }
    check_tensors(str(folder), expected, found)
    tokenizer = Tokenizer.from_hf(folder, vocab_size=config.vocab_size)

    def fetch(tensor: OutsideTensor) -> np.ndarray:
        with safe_open(files[tensor.hf_name], framework="numpy") as shard:
            return shard.get_tensor(tensor.hf_name)

    return fill_from_outside(model, fetch, dtype), tokenizer


def save_hf(model: Decoder, tokenizer: Tokenizer, folder: str | os.PathLike) -> None:
    """Save a model and its tokenizer as a folder that transformers loads.

    Everything is written to a temporary folder beside the target and renamed at the
    end, so the target is whole or absent. Host memory: one shard, at most 2 GiB.

    Args:
        model: weights are stored in their own dtype.
        tokenizer: stored as ``tokenizer.json`` and its companions.
        folder: must not exist yet, or be empty.

    Raises:
        FileExistsError: where the folder has something in it.
        ValueError: where HF has no word for the configuration.
    """
    config = config_to_hf(model.config)
    config["dtype"] = str(model.embed_tokens.embedding[...].dtype)
    generation = {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": sorted(tokenizer.eog_ids) or None,
        "pad_token_id": tokenizer.pad_id,
    }
    with new_folder(folder) as scratch:
        _write_json(scratch / "config.json", config)
        known = {name: value for name, value in generation.items() if value is not None}
        _write_json(scratch / "generation_config.json", known)
        tokenizer.save_hf(scratch)
        _save_shards(model, scratch)


def abstract_decoder(config, *, dtype, remat: str) -> Decoder:
    """Return a decoder whose Variables have shapes and no memory."""
    return jax.eval_shape(
        lambda: Decoder(config, param_dtype=dtype, remat=remat, rngs=nnx.Rngs(0))
    )


def _index_tensors(
    folder: Path,
) -> tuple[dict[str, tuple[int, ...]], dict[str, Path]]:
    index = folder / _INDEX
    if index.exists():
        weight_map = _read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise ValueError(f"{index}: weight_map must be an object of file names")
        names = sorted({str(name) for name in weight_map.values()})
        for name in names:
            # The index comes from outside: it must not lead out of the folder.
            if Path(name).name != name or name in ("", ".."):
                raise ValueError(f"{index}: shard {name!r} is not a plain file name")
    else:
        names = ["model.safetensors"]
    shapes: dict[str, tuple[int, ...]] = {}
    files: dict[str, Path] = {}
    for name in names:
        path = folder / name
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing; the model needs it")
        try:
            with safe_open(path, framework="numpy") as shard:
                for key in shard.keys():  # safe_open is no mapping
                    shapes[key] = tuple(shard.get_slice(key).get_shape())
                    files[key] = path
        except Exception as error:
            raise ValueError(
                f"{path}: not a readable safetensors file: {error}"
            ) from error
    return shapes, files


def _save_shards(model: Decoder, folder: Path) -> None:
    get = read_outside(model)
    shards: list[list[OutsideTensor]] = [[]]
    filled = total = 0
    itemsize = model.embed_tokens.embedding[...].dtype.itemsize
    for tensor in outside_tensors(model):
        size = int(np.prod(tensor.shape)) * itemsize
        if filled and filled + size > MAX_SHARD_BYTES:
            shards.append([])
            filled = 0
        shards[-1].append(tensor)
        filled += size
        total += size
    weight_map = {}
    for number, shard in enumerate(shards, 1):
        name = "model.safetensors"
        if len(shards) > 1:
            name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        arrays = {t.hf_name: np.ascontiguousarray(get(t)) for t in shard}
        save_file(arrays, folder / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(arrays, name)
    if len(shards) > 1:
        _write_json(
            folder / _INDEX,
            {"metadata": {"total_size": total}, "weight_map": weight_map},
        )


def _read_json(path: Path) -> dict:
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; a Hugging Face folder has it")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(raw, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(raw).__name__}")
    return raw


def _write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
