"""llama.cpp through llama-cpp-python's C interface, as an oracle.

The high-level class hides the model parameters that a fair comparison needs, so this
one talks to the C functions: a float32 KV cache, no flash attention, and no repacked
weight buffers, which crash on some virtual machines that announce AMX without it.
"""

import contextlib
import ctypes
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np


class LlamaCpp:
    """Run a GGUF file in llama.cpp with float32 keys and values.

    Use it as a context manager: the file stays mapped until ``close``.

    Args:
        path: of the GGUF file.
        context_tokens: prompt and generated tokens together.
        threads: llama.cpp's threads wait for each other by spinning, so on a busy
            machine one is faster than several.
        vocab_only: load the tokenizer only; ``logits`` and ``greedy`` then raise.

    Raises:
        ModuleNotFoundError: where llama-cpp-python is not installed.
        ValueError: where llama.cpp refuses the file.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        context_tokens: int = 512,
        threads: int = 1,
        vocab_only: bool = False,
    ):
        """Load the file."""
        self._lib = _package()
        self._model = self._context = None
        self._context_tokens = 0 if vocab_only else context_tokens
        lib = self._lib
        lib.llama_log_set(_silent(), ctypes.c_void_p())
        lib.llama_backend_init()
        parameters = lib.llama_model_default_params()
        parameters.use_extra_bufts = False
        parameters.n_gpu_layers = 0
        parameters.vocab_only = vocab_only
        name = os.fspath(path)
        self._model = lib.llama_model_load_from_file(name.encode(), parameters)
        if not self._model:
            raise ValueError(f"llama.cpp does not load {name}")
        self._vocab = lib.llama_model_get_vocab(self._model)
        self.vocab_size = lib.llama_vocab_n_tokens(self._vocab)
        if vocab_only:
            return
        options = lib.llama_context_default_params()
        options.n_ctx = options.n_batch = options.n_ubatch = context_tokens
        options.type_k = options.type_v = lib.GGML_TYPE_F32
        options.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
        options.n_threads = options.n_threads_batch = threads
        self._context = lib.llama_init_from_model(self._model, options)
        if not self._context:
            self.close()
            raise ValueError(
                f"llama.cpp cannot make a context of {context_tokens} tokens for {name}"
            )

    def tokenize(
        self, text: str, add_special: bool = False, parse_special: bool = False
    ) -> list[int]:
        """Return llama.cpp's token ids of a text."""
        data = text.encode()
        size = len(data) + 8
        out = (self._lib.llama_token * size)()
        count = self._lib.llama_tokenize(
            self._vocab, data, len(data), out, size, add_special, parse_special
        )
        if count < 0:
            raise ValueError(f"llama.cpp needs {-count} tokens for {text[:40]!r}")
        return list(out[:count])

    def logits(self, ids: list[int]) -> np.ndarray:
        """Return the logits after every token of a prompt, float32 (T, V)."""
        self._lib.llama_memory_clear(self._lib.llama_get_memory(self._context), True)
        return self._decode(ids, 0)

    def greedy(self, ids: list[int], count: int) -> list[int]:
        """Return the ``count`` most probable next tokens, one after another."""
        return [int(row.argmax()) for row in self.greedy_logits(ids, count)]

    def greedy_logits(self, ids: list[int], count: int) -> np.ndarray:
        """Return the logits that greedy decoding chose from, float32 (count, V)."""
        rows = [self.logits(ids)[-1]]
        for at in range(count - 1):
            rows.append(self._decode([int(rows[-1].argmax())], len(ids) + at)[-1])
        return np.stack(rows)

    def close(self) -> None:
        """Free the model."""
        if self._context:
            self._lib.llama_free(self._context)
        if self._model:
            self._lib.llama_model_free(self._model)
        self._model = self._context = None

    def __enter__(self) -> "LlamaCpp":
        """Return the open model."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Free the model."""
        self.close()

    def _decode(self, ids: list[int], start: int) -> np.ndarray:
        lib, count = self._lib, len(ids)
        # llama.cpp aborts the process where a batch is larger than it was told.
        if not 0 < count <= self._context_tokens - start:
            raise ValueError(
                f"{count} tokens at position {start} do not fit "
                f"context_tokens={self._context_tokens}"
            )
        batch = lib.llama_batch_init(count, 0, 1)
        try:
            batch.n_tokens = count
            for i, token in enumerate(ids):
                batch.token[i] = token
                batch.pos[i] = start + i
                batch.n_seq_id[i] = 1
                batch.seq_id[i][0] = 0
                batch.logits[i] = 1
            status = lib.llama_decode(self._context, batch)
            if status:
                raise ValueError(
                    f"llama.cpp could not decode {count} tokens at position {start} "
                    f"(status {status})"
                )
            pointer = lib.llama_get_logits(self._context)
            flat = np.ctypeslib.as_array(pointer, (count * self.vocab_size,))
            return flat.reshape(count, self.vocab_size).copy()
        finally:
            lib.llama_batch_free(batch)


def chat_completion(
    path: str | os.PathLike,
    messages: Sequence[Mapping[str, str]],
    *,
    max_tokens: int,
    context_tokens: int = 1024,
    threads: int = 1,
) -> dict[str, Any]:
    """Return a greedy answer by llama-cpp-python's own chat completion.

    Nothing of this library takes part: the chat template and the tokens that end an
    answer are read from the file by llama.cpp.

    Args:
        path: of the GGUF file.
        messages: ``{"role": ..., "content": ...}`` in order.
        max_tokens: where the answer is cut off.
        context_tokens: prompt and answer together.
        threads: see ``LlamaCpp``.

    Returns:
        ``prompt`` (the last message), ``text``, ``finish_reason`` (``stop`` where the
        model ended the answer by itself, else ``length``) and ``completion_tokens``.

    Raises:
        ModuleNotFoundError: where llama-cpp-python is not installed.
        ValueError: where llama.cpp refuses the file.
    """
    llama_cpp = _package()
    with _plain_buffers(llama_cpp.llama_cpp):
        model = llama_cpp.Llama(
            model_path=os.fspath(path),
            n_ctx=context_tokens,
            n_threads=threads,
            n_threads_batch=threads,
            n_gpu_layers=0,
            verbose=False,
        )
    with contextlib.closing(model):
        found: Any = model.create_chat_completion(
            [dict(message) for message in messages],  # type: ignore[arg-type]
            temperature=0.0,
            max_tokens=max_tokens,
        )
    choice = found["choices"][0]
    return {
        "prompt": messages[-1]["content"],
        "text": choice["message"]["content"],
        "finish_reason": choice["finish_reason"],
        "completion_tokens": found["usage"]["completion_tokens"],
    }


@contextlib.contextmanager
def _plain_buffers(lib: Any) -> Iterator[None]:
    """Turn repacked weight buffers off; the class has no argument for it."""
    defaults = lib.llama_model_default_params

    def plain() -> Any:
        parameters = defaults()
        parameters.use_extra_bufts = False
        return parameters

    lib.llama_model_default_params = plain
    try:
        yield
    finally:
        lib.llama_model_default_params = defaults


def _package() -> Any:
    try:
        import llama_cpp
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "llama-cpp-python is not installed; pip install 'simplex-jax[llamacpp]'"
        ) from error
    return llama_cpp


@functools.cache
def _silent() -> Any:
    # Cached, because llama.cpp calls it for as long as the process lives.
    import llama_cpp

    return llama_cpp.llama_log_callback(lambda *_: None)
