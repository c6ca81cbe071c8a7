"""Small models as folders and files, each made once."""

from pathlib import Path

import pytest
from models_helpers import (
    VOCAB,
    small_tokenizer,
    transformers_model,
    write_tokenizer,
)

from simplex_jax.text import Tokenizer


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory) -> Tokenizer:
    return small_tokenizer(tmp_path_factory.mktemp("tokenizer"), VOCAB)


@pytest.fixture(scope="session")
def made_by_transformers(tmp_path_factory):
    """Return a function from a row's name to (torch model, saved folder)."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    made: dict[str, tuple[object, Path]] = {}

    def get(name: str):
        if name not in made:
            folder = tmp_path_factory.mktemp("hf") / name
            model = transformers_model(name)
            model.save_pretrained(folder)
            write_tokenizer(folder)
            made[name] = model, folder
        return made[name]

    return get
