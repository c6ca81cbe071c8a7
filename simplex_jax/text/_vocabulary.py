"""What a tokenizer is made of, independent of the file it came from."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from functools import cached_property

import numpy as np

from ._splits import known_pre


class TokenType(enum.IntEnum):
    """Name the token types of ``tokenizer.ggml.token_type``."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


# Texts that end a generation in llama.cpp whatever the metadata says.
_END_OF_GENERATION = frozenset(
    (
        "<|eot_id|>",
        "<|im_end|>",
        "<|end|>",
        "<|return|>",
        "<|call|>",
        "<|flush|>",
        "<|calls|>",
        "<end_of_turn>",
        "<|endoftext|>",
        "<|eom_id|>",
        "</s>",
        "<eos>",
        "[EOS]",
        "[EOT]",
        "<｜end▁of▁sentence｜>",
        "<end_of_utterance>",
        "<|end_of_text|>",
        "<EOT>",
        "_<EOT>",
        "<turn|>",
        "[e~[",
        "<|tool_response>",
        "<|fim_pad|>",
        "<fim-pad>",
        "<fim_pad>",
        "<PAD>",
        "<|fim_repo|>",
        "<|repo_name|>",
        "<fim-repo>",
        "<REPO>",
        "<reponame>",
        "<|file_sep|>",
    )
)
# Fill-in-the-middle texts are control tokens too, but end nothing.
_CONTROL_TEXTS = _END_OF_GENERATION | {
    "<|fim_prefix|>",
    "<fim-prefix>",
    "<fim_prefix>",
    "<|fim_suffix|>",
    "<fim_suffix>",
    "<|code_middle|>",
    "<|fim_middle|>",
}

SPECIAL_ID_FIELDS = (
    "bos_id",
    "eos_id",
    "eot_id",
    "eom_id",
    "unk_id",
    "sep_id",
    "pad_id",
    "mask_id",
)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Vocabulary:
    """Hold a tokenizer's tokens, ids, flags and chat templates.

    Tokens of model ``"gpt2"`` are in byte-level form (``Ġ`` for a space),
    tokens of model ``"llama"`` in sentencepiece form (``▁``).

    Args:
        model: ``"gpt2"`` (byte-level BPE) or ``"llama"`` (sentencepiece BPE).
        pre: How text is cut into words; see ``known_pre``.
        tokens: Token texts by id, unique.
        token_types: One ``TokenType`` value per token, int32.
        merges: ``"left right"`` in rank order; empty for model ``"llama"``.
        scores: One float32 per token for model ``"llama"``, otherwise None.
        bos_id: Id that begins a sequence, or None.
        eos_id: Id that ends a sequence, or None.
        eot_id: Id that ends a turn, or None.
        eom_id: Id that ends a message, or None.
        unk_id: Id of unknown text, or None.
        sep_id: Id of the separator, or None.
        pad_id: Id of padding, or None.
        mask_id: Id of the mask, or None.
        add_bos: Whether ``encode(add_special=True)`` begins with ``bos_id``.
        add_eos: Whether ``encode(add_special=True)`` ends with ``eos_id``.
        add_space_prefix: Whether model ``"llama"`` puts a space before text.
        chat_template: Jinja source of the default chat template, or None.
        named_chat_templates: Jinja sources of further templates by name.

    Raises:
        ValueError: A field is out of its range or contradicts another.
    """

    model: str
    pre: str
    tokens: tuple[str, ...]
    token_types: np.ndarray
    merges: tuple[str, ...] = ()
    scores: np.ndarray | None = None
    bos_id: int | None = None
    eos_id: int | None = None
    eot_id: int | None = None
    eom_id: int | None = None
    unk_id: int | None = None
    sep_id: int | None = None
    pad_id: int | None = None
    mask_id: int | None = None
    add_bos: bool = False
    add_eos: bool = False
    add_space_prefix: bool = False
    chat_template: str | None = None
    named_chat_templates: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        known = known_pre(self.model)
        if self.pre not in known:
            raise ValueError(
                f"pre={self.pre!r} is not known for model {self.model!r}; known:"
                f" {', '.join(known)}. Pass the one whose split the tokenizer uses."
            )
        _check_tokens(self.tokens)
        types = _per_token(self.token_types, "token_types", len(self.tokens), np.int32)
        bad = np.flatnonzero((types < TokenType.NORMAL) | (types > TokenType.BYTE))
        if bad.size:
            raise ValueError(
                f"token_types[{bad[0]}]={types[bad[0]]} is no token type; use 1..6."
            )
        object.__setattr__(self, "token_types", self._with_control_texts(types))
        if self.model == "llama":
            if self.scores is None:
                raise ValueError("model 'llama' needs scores: its merges follow them.")
            scores = _per_token(self.scores, "scores", len(self.tokens), np.float32)
            object.__setattr__(self, "scores", scores)
        elif not self.merges:
            raise ValueError("model 'gpt2' needs merges; the list is empty.")
        for field in SPECIAL_ID_FIELDS:
            token_id = getattr(self, field)
            if token_id is not None and not 0 <= token_id < len(self.tokens):
                raise ValueError(
                    f"{field}={token_id} is not one of the {len(self.tokens)} tokens;"
                    " give an id inside the vocabulary, or None."
                )
        for flag, field in (("add_bos", "bos_id"), ("add_eos", "eos_id")):
            if getattr(self, flag) and getattr(self, field) is None:
                raise ValueError(f"{flag}=True needs {field}, which is None; set it.")

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}({self.model!r}, pre={self.pre!r}, {self.vocab_size} tokens)"

    def _with_control_texts(self, types: np.ndarray) -> np.ndarray:
        # llama.cpp overrides the types of these texts when it loads a file.
        overridden = types.copy()
        for text in _CONTROL_TEXTS:
            token_id = self.ids_by_token.get(text)
            if token_id is not None:
                overridden[token_id] = TokenType.CONTROL
        overridden.flags.writeable = False
        return overridden

    @property
    def vocab_size(self) -> int:
        """Count the tokens, unused ones included."""
        return len(self.tokens)

    @cached_property
    def ids_by_token(self) -> Mapping[str, int]:
        """Map token texts to ids."""
        return {token: i for i, token in enumerate(self.tokens)}

    @cached_property
    def eog_ids(self) -> frozenset[int]:
        """Collect the ids at which generation ends, as llama.cpp does.

        They are ``eos_id``, ``eot_id``, ``eom_id`` and every token whose text
        llama.cpp knows as an end, the padding and repository tokens of
        fill-in-the-middle models among them.
        """
        ids = {i for i in (self.eos_id, self.eot_id, self.eom_id) if i is not None}
        known = (self.ids_by_token.get(text) for text in _END_OF_GENERATION)
        return frozenset(ids.union(i for i in known if i is not None))

    @property
    def bos_token(self) -> str:
        """Give the text of ``bos_id``, empty where there is none."""
        return "" if self.bos_id is None else self.tokens[self.bos_id]


def _check_tokens(tokens: tuple[str, ...]) -> None:
    if not tokens:
        raise ValueError("tokens is empty; a vocabulary needs at least one token.")
    first: dict[str, int] = {}
    for i, token in enumerate(tokens):
        if first.setdefault(token, i) != i:
            raise ValueError(
                f"tokens[{first[token]}] and tokens[{i}] are both {token!r}; llama.cpp"
                " aborts on repeated tokens, so rename one (for example '[PAD0]')."
            )


def _per_token(values: object, name: str, count: int, dtype: type) -> np.ndarray:
    array = np.asarray(values).astype(dtype)
    if array.shape != (count,):
        raise ValueError(
            f"{name} has shape {array.shape} but there are {count} tokens; give one"
            " value per token."
        )
    array.flags.writeable = False
    return array
