"""llama.cpp's tokenizer, through llama-cpp-python's low-level functions."""

from pathlib import Path
from typing import Any

from simplex_jax import gguf
from simplex_jax.text import Tokenizer


def write_vocabulary(path: Path, tokenizer: Tokenizer, **options) -> Path:
    metadata = {"general.architecture": "llama", **tokenizer.gguf_metadata(**options)}
    gguf.write(path, metadata, [])
    return path


class LlamaVocabulary:
    """Tokenize as llama.cpp does with a vocabulary-only GGUF file."""

    def __init__(self, path: Path) -> None:
        import llama_cpp

        self._library: Any = llama_cpp
        self._library.llama_log_set(_SILENT, None)
        parameters = self._library.llama_model_default_params()
        parameters.vocab_only = True
        self._model = self._library.llama_model_load_from_file(
            str(path).encode(), parameters
        )
        assert self._model, f"llama.cpp refuses {path}"
        self._vocabulary = self._library.llama_model_get_vocab(self._model)

    def encode(self, text: str, add_special: bool, parse_special: bool) -> list[int]:
        data = text.encode()
        room = len(data) + 16
        ids = (self._library.llama_token * room)()
        count = self._library.llama_tokenize(
            self._vocabulary, data, len(data), ids, room, add_special, parse_special
        )
        assert count >= 0
        return list(ids[:count])

    def decode(self, ids: list[int]) -> bytes:
        found = b""
        for token_id in ids:
            buffer = self._library.ctypes.create_string_buffer(256)
            count = self._library.llama_token_to_piece(
                self._vocabulary, token_id, buffer, 256, 0, True
            )
            found += buffer.raw[:count]
        return found

    def eog_ids(self, size: int) -> set[int]:
        is_eog = self._library.llama_vocab_is_eog
        return {i for i in range(size) if is_eog(self._vocabulary, i)}

    def flags(self) -> dict[str, int | bool]:
        names = ("bos", "eos", "pad", "get_add_bos", "get_add_eos")
        return {
            name: getattr(self._library, f"llama_vocab_{name}")(self._vocabulary)
            for name in names
        }


def _silent():
    import llama_cpp

    return llama_cpp.llama_log_callback(lambda level, text, data: None)


try:
    _SILENT = _silent()
except ImportError:
    _SILENT = None
