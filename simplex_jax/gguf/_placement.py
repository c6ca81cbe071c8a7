"""Which type each tensor gets in a file of a given kind."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from .._checks import one_of
from ._overrides import Overrides
from ._types import (
    ARCHITECTURE_KEY,
    FileType,
    GGMLType,
    MetadataValue,
    as_type,
    block_size,
    short_repr,
)

FILE_TYPES: Mapping[str, FileType] = MappingProxyType(
    {
        "f32": FileType.ALL_F32,
        "f16": FileType.MOSTLY_F16,
        "bf16": FileType.MOSTLY_BF16,
        "q8_0": FileType.MOSTLY_Q8_0,
        "q6_k": FileType.MOSTLY_Q6_K,
        "q5_k_m": FileType.MOSTLY_Q5_K_M,
        "q5_k_s": FileType.MOSTLY_Q5_K_S,
        "q4_k_m": FileType.MOSTLY_Q4_K_M,
        "q4_k_s": FileType.MOSTLY_Q4_K_S,
        "q3_k_l": FileType.MOSTLY_Q3_K_L,
        "q3_k_m": FileType.MOSTLY_Q3_K_M,
        "q3_k_s": FileType.MOSTLY_Q3_K_S,
        "q2_k": FileType.MOSTLY_Q2_K,
        "q5_0": FileType.MOSTLY_Q5_0,
        "q5_1": FileType.MOSTLY_Q5_1,
        "q4_0": FileType.MOSTLY_Q4_0,
        "q4_1": FileType.MOSTLY_Q4_1,
    }
)
"""The kinds of file that can be written, and their ``general.file_type``."""

_EMBEDDING = "token_embd.weight"
_OUTPUT = "output.weight"

_T = GGMLType

# What rows become that do not divide into blocks of 256.
_NARROWER = {
    _T.Q2_K: _T.Q4_0,
    _T.Q3_K: _T.Q4_0,
    _T.Q4_K: _T.Q5_0,
    _T.Q5_K: _T.Q5_1,
    _T.Q6_K: _T.Q8_0,
}


@dataclass(frozen=True)
class _Model:
    """What the choice depends on beside names and shapes."""

    layers: int
    value_tensors: int
    query_groups: int
    is_70b: bool
    tied: bool
    # The first layers whose blocks of 32 get a minimum, where there is an imatrix.
    weighed_layers: int


def _more(i: int, n: int) -> bool:
    return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2


# By file type, the i-th tensor's type where it is not the file's own.
_Rule = Callable[[int, _Model], GGMLType | None]
_ATTN_V: dict[str, _Rule] = {
    "q2_k": lambda i, model: _T.Q4_K if model.query_groups >= 4 else _T.Q3_K,
    "q3_k_m": lambda i, model: _T.Q5_K if i < 2 else _T.Q4_K,
    "q3_k_l": lambda i, model: _T.Q5_K,
    "q4_k_s": lambda i, model: _T.Q5_K if i < 4 else None,
    "q4_k_m": lambda i, model: _T.Q6_K if _more(i, model.value_tensors) else None,
    "q5_k_m": lambda i, model: _T.Q6_K if _more(i, model.value_tensors) else None,
}
_FFN_DOWN: dict[str, _Rule] = {
    "q2_k": lambda i, model: _T.Q3_K,
    "q3_k_m": lambda i, model: _T.Q5_K if i < model.layers // 16 else _T.Q4_K,
    "q3_k_l": lambda i, model: _T.Q5_K,
    "q4_k_s": lambda i, model: _T.Q5_K if i < model.layers // 8 else None,
    "q4_k_m": lambda i, model: _T.Q6_K if _more(i, model.layers) else None,
    "q5_k_m": lambda i, model: _T.Q6_K if _more(i, model.layers) else None,
    "q4_0": lambda i, model: _T.Q4_1 if i < model.weighed_layers else None,
    "q5_0": lambda i, model: _T.Q5_1 if i < model.weighed_layers else None,
}
_ATTN_OUTPUT = {"q2_k": _T.Q3_K, "q3_k_m": _T.Q4_K, "q3_k_l": _T.Q5_K}


def tensor_types(
    shapes: Mapping[str, Sequence[int]],
    file_type: str,
    metadata: Mapping[str, MetadataValue],
    *,
    imatrix: bool = False,
    overrides: Overrides | None = None,
) -> dict[str, GGMLType]:
    """Choose the types that a model's tensors are stored in.

    Matrices whose name ends in ``weight`` get the file's own type, F32, F16, BF16
    or the block type in its name, routers and ``*_norm.weight`` apart. In files of
    block types some get another one: the i-th ``attn_v`` and ``ffn_down``,
    ``attn_output``, and the matrix that makes the logits. With n layers, and::

        more(i, n)  =  i < n/8  or  i >= 7n/8  or  (i - n/8) mod 3 = 2

                 attn_v               ffn_down              attn_output
        q5_k_m   Q6_K if more         Q6_K if more
        q4_k_m   Q6_K if more         Q6_K if more
        q4_k_s   Q5_K if i < 4        Q5_K if i < n/8
        q3_k_l   Q5_K                 Q5_K                  Q5_K
        q3_k_m   Q5_K if i < 2,       Q5_K if i < n/16,     Q4_K
                 else Q4_K            else Q4_K
        q2_k     Q4_K if 4 or more    Q3_K                  Q3_K
                 heads share a value,
                 else Q3_K
        q5_0                          Q5_1 if imatrix and i < n/8
        q4_0                          Q4_1 if imatrix and i < n/8

    The logits come from Q8_0 in a q8_0 file, elsewhere from Q6_K. In 70B models Q3_K
    and Q4_K of ``attn_v`` become Q5_K. Where rows do not divide into blocks of
    256, Q2_K and Q3_K become Q4_0, Q4_K Q5_0, Q5_K Q5_1 and Q6_K Q8_0; where they do
    not divide into blocks of 32, F16.

    Args:
        shapes: every tensor of the file by GGUF name, NumPy order.
        file_type: a key of ``FILE_TYPES``.
        metadata: of the file: ``general.architecture``, and of that architecture
            ``block_count``, ``attention.head_count`` and ``.head_count_kv``.
        imatrix: whether an importance matrix will be used.
        overrides: the user's wishes.

    Returns:
        Name to type. Tensors that no file type touches are absent: they keep the
        type that they have.

    Raises:
        ValueError: ``file_type`` is unknown, a key is missing, or the table does not
            hold for the architecture.

    Source: llama.cpp ``src/llama-quant.cpp``, which refuses files of 32-blocks
    whose rows do not divide into them, where this says F16.
    """
    one_of("file_type", file_type, FILE_TYPES)
    wishes = overrides or Overrides()
    model = _model(shapes, metadata, imatrix)
    logits = _EMBEDDING if model.tied else _OUTPUT
    default = _default(file_type)
    seen = {"attn_v.weight": 0, "ffn_down": 0}
    types: dict[str, GGMLType] = {}
    for name in file_order(shapes):
        if not _is_matrix(name, shapes[name]):
            continue
        if name == _OUTPUT and wishes.leave_output_tensor:
            continue
        if name == _EMBEDDING and wishes.token_embedding_type is not None:
            types[name] = as_type(wishes.token_embedding_type)
        elif name == _OUTPUT and wishes.output_tensor_type is not None:
            types[name] = as_type(wishes.output_tensor_type)
        elif block_size(default)[0] == 1:
            types[name] = default
        else:
            width = shapes[name][-1]
            chosen = wishes.type_of(name)
            if chosen is None and wishes.pure:
                chosen = default
            if chosen is None and name == logits:
                wish = wishes.output_tensor_type
                chosen = _for_logits(default, width) if wish is None else as_type(wish)
            if chosen is None:
                chosen = _in_the_mixture(name, file_type, model, seen)
            types[name] = _that_fits(chosen, width)
    return types


def file_order(names: Iterable[str]) -> list[str]:
    """Put names in the order in which llama.cpp visits and writes tensors.

    Args:
        names: of tensors.

    Returns:
        Those outside of layers first, then layer by layer; by name within.
    """

    def key(name: str) -> tuple[int, bytes]:
        layer = re.match(r"blk\.(\d+)", name)
        return int(layer[1]) if layer else -1, name.encode()

    return sorted(names, key=key)


def _model(
    shapes: Mapping[str, Sequence[int]],
    metadata: Mapping[str, MetadataValue],
    imatrix: bool,
) -> _Model:
    architecture = metadata.get(ARCHITECTURE_KEY)
    if architecture not in ("llama", "qwen2", "qwen3"):
        raise ValueError(
            f"{ARCHITECTURE_KEY} is {short_repr(architecture)}; which types the "
            "tensors get is known for llama, qwen2 and qwen3"
        )

    def number(key: str, default: int | None = None) -> int:
        value = np.asarray(metadata.get(f"{architecture}.{key}", default))
        if value.dtype.kind not in "iu" or not value.size:
            raise ValueError(
                f"metadata key {architecture}.{key} is missing or not a whole number; "
                "the choice of types needs it"
            )
        return int(value.flat[0])

    if number("expert_count", 0):
        raise ValueError(
            f"{architecture}.expert_count is {number('expert_count')}; which types "
            "the tensors of mixtures of experts get is not known here"
        )
    layers, heads = number("block_count"), number("attention.head_count")
    kv_heads = number("attention.head_count_kv", heads)
    grouped = heads != kv_heads
    return _Model(
        layers=layers,
        value_tensors=sum("attn_v.weight" in name for name in shapes),
        query_groups=heads // kv_heads if kv_heads else 0,
        is_70b=layers == 80
        and (architecture == "qwen2" or (architecture == "llama" and grouped)),
        tied=_OUTPUT not in shapes,
        weighed_layers=layers // 8 if imatrix else 0,
    )


def _is_matrix(name: str, shape: Sequence[int]) -> bool:
    # A leading dimension of 1 is none: the format cannot tell (1, n) from (n,).
    return (
        any(n != 1 for n in shape[:-1])
        and name.endswith("weight")
        and "_norm.weight" not in name
        and "ffn_gate_inp.weight" not in name
    )


def _default(file_type: str) -> GGMLType:
    return GGMLType[re.sub("_[sml]$", "", file_type).upper()]


def _for_logits(default: GGMLType, width: int) -> GGMLType:
    if default == _T.Q8_0 or width % block_size(default)[0]:
        return _T.Q8_0
    return _T.Q6_K


def _in_the_mixture(
    name: str, file_type: str, model: _Model, seen: dict[str, int]
) -> GGMLType:
    default = _default(file_type)
    # Tensors whose type the user gave are not counted.
    for part, rules in (("attn_v.weight", _ATTN_V), ("ffn_down", _FFN_DOWN)):
        if part not in name:
            continue
        index = seen[part]
        seen[part] += 1
        chosen = default
        if file_type in rules:
            chosen = rules[file_type](index, model) or default
        if part == "attn_v.weight" and model.is_70b and chosen in (_T.Q3_K, _T.Q4_K):
            chosen = _T.Q5_K
        return chosen
    if "attn_output.weight" in name:
        return _ATTN_OUTPUT.get(file_type, default)
    return default


def _that_fits(type: GGMLType, width: int) -> GGMLType:
    if width % block_size(type)[0]:
        type = _NARROWER.get(type, type)
    return _T.F16 if width % block_size(type)[0] else type
