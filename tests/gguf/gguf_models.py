"""Known models by their shapes, and what llama.cpp makes of a file."""

import ctypes
import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np

from simplex_jax import gguf
from simplex_jax.gguf import GGMLType, MetadataValue, TensorSource
from simplex_jax.gguf._writer import _header

Shapes = dict[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Model:
    architecture: str
    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int
    tied: bool

    def shapes(self) -> Shapes:
        shapes: Shapes = {
            "token_embd.weight": (self.vocabulary, self.hidden),
            "output_norm.weight": (self.hidden,),
        }
        if not self.tied:
            shapes["output.weight"] = (self.vocabulary, self.hidden)
        wide, narrow = self.heads * self.head, self.kv_heads * self.head
        for layer in range(self.layers):
            part: Shapes = {
                "attn_norm.weight": (self.hidden,),
                "attn_q.weight": (wide, self.hidden),
                "attn_k.weight": (narrow, self.hidden),
                "attn_v.weight": (narrow, self.hidden),
                "attn_output.weight": (self.hidden, wide),
                "ffn_norm.weight": (self.hidden,),
                "ffn_gate.weight": (self.ffn, self.hidden),
                "ffn_up.weight": (self.ffn, self.hidden),
                "ffn_down.weight": (self.hidden, self.ffn),
            }
            shapes |= {f"blk.{layer}.{name}": shape for name, shape in part.items()}
        return shapes

    def metadata(self) -> dict[str, MetadataValue]:
        numbers: dict[str, MetadataValue] = {
            "context_length": np.uint32(128),
            "embedding_length": np.uint32(self.hidden),
            "block_count": np.uint32(self.layers),
            "feed_forward_length": np.uint32(self.ffn),
            "attention.head_count": np.uint32(self.heads),
            "attention.head_count_kv": np.uint32(self.kv_heads),
            "attention.key_length": np.uint32(self.head),
            "attention.value_length": np.uint32(self.head),
            "attention.layer_norm_rms_epsilon": np.float32(1e-5),
            "rope.dimension_count": np.uint32(self.head),
            "vocab_size": np.uint32(self.vocabulary),
        }
        kind: dict[str, MetadataValue] = {"general.architecture": self.architecture}
        return kind | {f"{self.architecture}.{k}": v for k, v in numbers.items()}


MODELS = {
    "qwen2.5-0.5b": Model("qwen2", 24, 896, 4864, 14, 2, 64, 151936, True),
    "qwen3-0.6b": Model("qwen3", 28, 1024, 3072, 16, 8, 128, 151936, True),
    "qwen3-8b": Model("qwen3", 36, 4096, 12288, 32, 8, 128, 151936, False),
    "llama-3.2-1b": Model("llama", 16, 2048, 8192, 32, 8, 64, 128256, True),
    "llama-3-8b": Model("llama", 32, 4096, 14336, 32, 8, 128, 128256, False),
}


def write_hollow(path: Path, model: Model, type: GGMLType = GGMLType.F16) -> None:
    """Write a file whose tensors are a hole: on the disk it takes its header."""

    def load() -> np.ndarray:
        raise AssertionError("not to be loaded")

    sources = [
        TensorSource(name, shape, type if len(shape) > 1 else GGMLType.F32, load)
        for name, shape in model.shapes().items()
    ]
    header = _header(model.metadata(), sources, 32)
    path.write_bytes(header)
    with path.open("r+b") as file:
        data = [int(np.prod(s.shape)) * gguf.block_size(s.type)[1] for s in sources]
        file.truncate(len(header) + sum(-(-n // 32) * 32 for n in data))


def llama_quantize(
    path_in: Path,
    path_out: Path,
    file_type: str,
    *,
    imatrix: dict[str, np.ndarray] | None = None,
    overrides: gguf.Overrides | None = None,
    dry_run: bool = False,
    threads: int = 1,
) -> str:
    """Quantize by llama.cpp, and return what it logs."""
    import llama_cpp

    log: list[bytes] = []
    listen = llama_cpp.llama_log_callback(lambda level, text, user: log.append(text))
    parameters: Any = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = int(gguf.FILE_TYPES[file_type])
    parameters.nthread = threads
    parameters.allow_requantize = True
    parameters.dry_run = dry_run
    wishes = overrides or gguf.Overrides()
    parameters.pure = wishes.pure
    parameters.quantize_output_tensor = not wishes.leave_output_tensor
    for name in ("output_tensor_type", "token_embedding_type"):
        if getattr(wishes, name) is not None:
            setattr(parameters, name, int(GGMLType[getattr(wishes, name)]))
    if wishes.tensor_type:
        pairs = [(p.encode(), int(GGMLType[str(t)])) for p, t in wishes.tensor_type]
        Override = llama_cpp.llama_model_tensor_override
        # The list ends with an entry without a pattern.
        parameters.tt_overrides = (Override * (len(pairs) + 1))(*pairs)
    if imatrix:
        Data = llama_cpp.llama_model_imatrix_data
        entries = [
            (n.encode(), v.ctypes.data_as(ctypes.POINTER(ctypes.c_float)), v.size)
            for n, v in imatrix.items()
        ]
        parameters.imatrix = (Data * (len(entries) + 1))(*entries)
    llama_cpp.llama_log_set(listen, ctypes.c_void_p())
    try:
        status = llama_cpp.llama_model_quantize(
            str(path_in).encode(), str(path_out).encode(), parameters
        )
    finally:
        # llama.cpp would go on calling what Python has forgotten.
        llama_cpp.llama_log_set(_SILENT or _silent(), ctypes.c_void_p())
    text = b"".join(log).decode()
    assert status == 0, text
    return text


_SILENT: Any = None


def _silent() -> Any:
    import llama_cpp

    global _SILENT
    _SILENT = llama_cpp.llama_log_callback(lambda *_: None)
    return _SILENT


def types_in(log: str) -> dict[str, GGMLType]:
    """Return the types that a dry run says tensors will get."""
    by_name = {type.name.lower(): type for type in GGMLType}
    line = r"\[ *\d+/ *\d+\] (\S+) .*? type = +(\w+), size = [^\n]*?(?:\((\w+)\))?\n"
    # Warnings of fallbacks stand between lines, never within one.
    return {n: by_name[(b or a).lower()] for n, a, b in re.findall(line, log)}
