"""How each ``tokenizer.ggml.pre`` cuts text into words before merging."""

from __future__ import annotations

from tokenizers import Regex, pre_tokenizers

GPT2_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"


def _modern(letters: str, number: str, not_symbols: str) -> str:
    # Qwen2 and Llama-3 share everything but the classes. The contractions are
    # spelled out because (?i:'s) would also match the long s, U+017F.
    contractions = "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"
    return (
        rf"{contractions}|[^\r\n\p{{L}}\p{{N}}]?{letters}+|{number}"
        rf"| ?[^\s{not_symbols}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


# Each expression cuts the pieces that the one before it left.
SPLITS: dict[str, tuple[str, ...]] = {
    "smollm": (r"\p{N}", GPT2_SPLIT),
    "qwen2": (_modern(r"\p{L}", r"\p{N}", r"\p{L}\p{N}"),),
    "qwen35": (_modern(r"[\p{L}\p{M}]", r"\p{N}", r"\p{L}\p{M}\p{N}"),),
    "llama-bpe": (_modern(r"\p{L}", r"\p{N}{1,3}", r"\p{L}\p{N}"),),
    "gpt-2": (GPT2_SPLIT,),
    "default": (r"[\p{P}\$\+<=>\^~\|]+", GPT2_SPLIT, r"\p{N}+", r"[0-9][0-9][0-9]"),
}


def known_pre(model: str) -> tuple[str, ...]:
    """List the ``pre`` values known for a tokenizer model.

    Args:
        model: ``tokenizer.ggml.model``.

    Returns:
        Names, in no particular order of preference.

    Raises:
        ValueError: The model is not known.
    """
    if model == "gpt2":
        return tuple(SPLITS)
    if model == "llama":
        return ("default",)
    raise ValueError(
        f"model={model!r} is not a known tokenizer model; known: gpt2 (byte-level"
        " BPE), llama (sentencepiece BPE)."
    )


def byte_level_split(pre: str) -> pre_tokenizers.PreTokenizer:
    """Build the pre-tokenizer of a byte-level BPE vocabulary.

    Args:
        pre: One of ``known_pre("gpt2")``.

    Returns:
        The splits of ``pre``, then the map from bytes to printable characters.
    """
    splits = [pre_tokenizers.Split(Regex(r), "isolated") for r in SPLITS[pre]]
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([*splits, to_bytes])
