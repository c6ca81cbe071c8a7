"""One door for every kind of source."""

import os
from pathlib import Path

import jax.numpy as jnp

from ..text import Tokenizer
from ._decoder import Decoder
from ._fetch import BASE_MODELS, fetch
from ._gguf import load_gguf
from ._hf import load_hf

_HUB_FILES = ["*.json", "*.safetensors", "*.jinja"]


def load(
    source: str | os.PathLike, *, dtype=jnp.float32, remat: str = "projections"
) -> tuple[Decoder, Tokenizer]:
    """Load a model and its tokenizer.

    Args:
        source: a name in ``BASE_MODELS``, a ``.gguf`` file, a Hugging Face folder, or
            ``"hf:organisation/name"`` where the network allows.
        dtype: of the Variables, float32 or bfloat16.
        remat: what reverse mode saves of each block, see ``REMAT_POLICIES``.

    Returns:
        The model and the tokenizer.

    Raises:
        FileNotFoundError: where there is no such file or folder.
        ValueError: where it is there and cannot be used; the message says why.
        ConnectionError: where it has to be fetched and cannot be.
    """
    name = os.fspath(source)
    if name in BASE_MODELS:
        return load_gguf(fetch(name), dtype=dtype, remat=remat)
    if name.startswith("hf:"):
        return load_hf(_snapshot(name[3:]), dtype=dtype, remat=remat)
    path = Path(name)
    if path.is_dir():
        return load_hf(path, dtype=dtype, remat=remat)
    if path.is_file():
        return load_gguf(path, dtype=dtype, remat=remat)
    raise FileNotFoundError(
        f"{name!r} is neither a file, nor a folder, nor a known base model "
        f"({', '.join(BASE_MODELS)}), nor hf:organisation/name"
    )


def _snapshot(repository: str) -> str:
    # Loaded here because it is only needed with a network, and slow to import.
    from huggingface_hub import snapshot_download

    try:
        return snapshot_download(repository, allow_patterns=_HUB_FILES)
    except Exception as error:
        raise ConnectionError(
            f"hf:{repository} could not be fetched: {error}; without a network, pass "
            "a local folder"
        ) from error
