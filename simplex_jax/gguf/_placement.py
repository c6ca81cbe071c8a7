"""Which type each tensor gets in a file of a given kind."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from ._types import FileType, GGMLType, block_size

FILE_TYPES: Mapping[str, FileType] = MappingProxyType(
    {
        "f32": FileType.ALL_F32,
        "f16": FileType.MOSTLY_F16,
        "bf16": FileType.MOSTLY_BF16,
        "q8_0": FileType.MOSTLY_Q8_0,
        "q4_0": FileType.MOSTLY_Q4_0,
    }
)
"""The kinds of file that can be written, and their ``general.file_type``."""

_DEFAULTS = {
    "f32": GGMLType.F32,
    "f16": GGMLType.F16,
    "bf16": GGMLType.BF16,
    "q8_0": GGMLType.Q8_0,
    "q4_0": GGMLType.Q4_0,
}


def tensor_type(
    name: str, shape: Sequence[int], file_type: str, *, tied: bool
) -> GGMLType:
    """Choose the type that a tensor is stored in.

    One-dimensional tensors, ``*_norm.weight`` and routers
    (``ffn_gate_inp.weight``) are F32 in every file. Elsewhere the file's own
    type, but in quantized files: F16 where a row does not divide into blocks,
    and Q8_0 for the matrix that makes the logits.

    Args:
        name: the tensor's GGUF name.
        shape: NumPy order.
        file_type: a key of ``FILE_TYPES``.
        tied: whether the file has no ``output.weight``, so that
            ``token_embd.weight`` makes the logits.

    Returns:
        The tensor's type.

    Raises:
        ValueError: ``file_type`` is unknown.

    Source: llama.cpp ``src/llama-quant.cpp``; it gives the logit matrix of a
    q4_0 file Q6_K, where Q8_0 stands here, larger and more exact.
    """
    if file_type not in FILE_TYPES:
        raise ValueError(
            f"file_type is {file_type!r}; it must be one of {', '.join(FILE_TYPES)}"
        )
    if len(shape) < 2 or name.endswith(("_norm.weight", "ffn_gate_inp.weight")):
        return GGMLType.F32
    chosen = _DEFAULTS[file_type]
    logits = "token_embd.weight" if tied else "output.weight"
    if chosen == GGMLType.Q4_0 and name == logits:
        chosen = GGMLType.Q8_0
    return chosen if shape[-1] % block_size(chosen)[0] == 0 else GGMLType.F16
