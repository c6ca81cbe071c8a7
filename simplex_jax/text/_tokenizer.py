"""Text to token ids and back, as llama.cpp does it."""

from __future__ import annotations

import codecs
import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer as Backend

from ._backend import byte_level_backend, sentencepiece_backend
from ._chat import Message, render_chat
from ._hf_read import read_folder
from ._hf_write import write_folder
from ._metadata import metadata_from_vocabulary, vocabulary_from_metadata
from ._partition import partition
from ._pieces import next_piece
from ._vocabulary import TokenType, Vocabulary


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Tokenizer(Vocabulary):
    """Encode and decode text with the ids that llama.cpp gives.

    Immutable: ``dataclasses.replace(tokenizer, chat_template=...)`` makes a
    changed one. Differs from llama.cpp in code points that Unicode 16 added,
    and in decoding, which keeps every byte where llama.cpp drops the spaces
    before punctuation for some ``pre`` (its ``clean_spaces``).
    """

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any]) -> Tokenizer:
        """Build a tokenizer from a GGUF file's metadata.

        Args:
            metadata: ``simplex_jax.gguf.open(path).metadata``.

        Returns:
            The tokenizer that llama.cpp would use for that file.

        Raises:
            ValueError: A key is missing, unknown or contradicts another.
        """
        return cls._from_vocabulary(vocabulary_from_metadata(metadata))

    @classmethod
    def from_hf(
        cls,
        folder: str | os.PathLike[str],
        vocab_size: int | None = None,
        *,
        pre: str | None = None,
    ) -> Tokenizer:
        """Build a tokenizer from a Hugging Face folder.

        The normalizer of ``tokenizer.json`` is left out, as llama.cpp has none:
        normalize training text to NFC where it matters.

        Args:
            folder: Where ``tokenizer.json`` lies.
            vocab_size: Rows of the model's embedding; ids that the tokenizer
                lacks become ``[PAD{i}]``. None takes the tokenizer's own size.
            pre: Kind of split, instead of the one read from its structure.

        Returns:
            The tokenizer.

        Raises:
            ValueError: A file is missing or unusable, or the split is not known.
        """
        return cls._from_vocabulary(read_folder(folder, vocab_size, pre=pre))

    @classmethod
    def _from_vocabulary(cls, vocabulary: Vocabulary) -> Tokenizer:
        fields = dataclasses.fields(vocabulary)
        tokenizer = cls(**{f.name: getattr(vocabulary, f.name) for f in fields})
        # An unusable merge list should fail here and not at the first encode.
        _ = tokenizer._backend
        return tokenizer

    @cached_property
    def _backend(self) -> Backend:
        build = byte_level_backend if self.model == "gpt2" else sentencepiece_backend
        return build(self)

    @cached_property
    def _whole_tokens(self) -> dict[bool, list[tuple[str, int]]]:
        """List tokens matched as a whole, by ``parse_special``, longest first."""
        special = {
            False: (TokenType.USER_DEFINED,),
            True: (TokenType.USER_DEFINED, TokenType.CONTROL, TokenType.UNKNOWN),
        }
        found = {}
        for parse_special, kinds in special.items():
            whole = [
                (token, i)
                for i, (token, kind) in enumerate(
                    zip(self.tokens, self.token_types.tolist(), strict=True)
                )
                if kind in kinds and token
            ]
            # llama.cpp counts bytes.
            whole.sort(key=lambda pair: len(pair[0].encode()), reverse=True)
            found[parse_special] = whole
        return found

    def encode(
        self,
        text: str,
        add_special: bool = False,
        parse_special: bool = False,
        *,
        text_start: bool = True,
    ) -> list[int]:
        """Turn text into token ids.

        Args:
            text: Any text without lone surrogates.
            add_special: Whether to add BOS and EOS as ``add_bos`` and
                ``add_eos`` say.
            parse_special: Whether the texts of control tokens become those
                tokens. User-defined tokens always do.
            text_start: Whether the text begins one; False continues one, so that
                a sentencepiece tokenizer puts no space before it.

        Returns:
            Ids in [0, vocab_size).

        Raises:
            ValueError: The text has a lone surrogate.
        """
        ids: list[int] = []
        if add_special and self.add_bos and self.bos_id is not None:
            ids.append(self.bos_id)
        after_whole = text_start
        for part in partition(text, self._whole_tokens[parse_special]):
            if isinstance(part, int):
                ids.append(part)
                after_whole = True
            else:
                ids += self._encode_plain(part, after_whole)
                after_whole = False
        if add_special and self.add_eos and self.eos_id is not None:
            ids.append(self.eos_id)
        return ids

    def _encode_plain(self, text: str, after_whole: bool) -> list[int]:
        if self.model == "llama":
            if self.add_space_prefix and after_whole:
                text = " " + text
            text = text.replace(" ", "▁")
        try:
            ids = self._backend.encode(text, add_special_tokens=False).ids
        except TypeError as error:
            raise ValueError(
                f"text contains a lone surrogate ({text[:80]!r}), which is not"
                " Unicode text; clean it with text.encode('utf-8', 'replace')."
            ) from error
        # Ids past the end stand for bytes that the vocabulary lacks.
        return [i for i in ids if i < self.vocab_size]

    def decode_bytes(
        self,
        ids: Iterable[int],
        *,
        skip_special: bool = False,
        text_start: bool = True,
    ) -> bytes:
        """Turn token ids into the bytes they stand for.

        Args:
            ids: Ids in [0, vocab_size).
            skip_special: Whether control and unknown tokens give nothing
                instead of their text.
            text_start: Whether the ids begin a text; False continues one, so
                that a sentencepiece token keeps its leading space.

        Returns:
            The bytes, which may end inside a character.

        Raises:
            ValueError: An id is not in the vocabulary.
        """
        found = []
        after_whole = text_start
        for token_id in ids:
            data, after_whole = next_piece(
                self, int(token_id), after_whole=after_whole, skip_special=skip_special
            )
            found.append(data)
        return b"".join(found)

    def decode(
        self,
        ids: Iterable[int],
        *,
        skip_special: bool = False,
        text_start: bool = True,
    ) -> str:
        """Turn token ids into text.

        The inverse of ``encode`` wherever the vocabulary has the text's bytes.

        Args:
            ids: Ids in [0, vocab_size).
            skip_special: Whether control and unknown tokens give nothing
                instead of their text.
            text_start: Whether the ids begin a text; see ``decode_bytes``.

        Returns:
            The text, with U+FFFD for bytes that are not UTF-8.

        Raises:
            ValueError: An id is not in the vocabulary.
        """
        data = self.decode_bytes(ids, skip_special=skip_special, text_start=text_start)
        return codecs.decode(data, "utf-8", "replace")

    def apply_chat_template(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = True,
        **variables: Any,
    ) -> str:
        """Render a conversation with the chat template.

        Args:
            messages: ``{"role": ..., "content": ...}`` in order.
            add_generation_prompt: Whether to open the assistant's next turn.
            **variables: Further variables of the template, such as ``tools``.

        Returns:
            The prompt, with BOS text where the template writes it.

        Raises:
            ValueError: There is no chat template, or a message is malformed.
            ChatTemplateError: The template is unusable or refused the messages.
        """
        if self.chat_template is None:
            raise ValueError(
                "the tokenizer has no chat_template; set one with"
                " dataclasses.replace(tokenizer, chat_template=...)."
            )
        return render_chat(
            self, messages, add_generation_prompt=add_generation_prompt, **variables
        )

    def encode_chat(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = True,
        **variables: Any,
    ) -> list[int]:
        """Render a conversation and turn it into token ids.

        There is exactly one BOS where ``add_bos`` is set or the template writes
        it, otherwise none. Special tokens spelled out in a message's content
        become those tokens: check untrusted contents.

        Args:
            messages: ``{"role": ..., "content": ...}`` in order.
            add_generation_prompt: Whether to open the assistant's next turn.
            **variables: Further variables of the template, such as ``tools``.

        Returns:
            Ids in [0, vocab_size).

        Raises:
            ValueError: As ``apply_chat_template``.
        """
        prompt = self.apply_chat_template(messages, add_generation_prompt, **variables)
        ids = self.encode(prompt, parse_special=True)
        if self.bos_id is None:
            return ids
        start = next((i for i, x in enumerate(ids) if x != self.bos_id), len(ids))
        wanted = self.add_bos or start > 0
        return [self.bos_id] * wanted + ids[start:]

    def gguf_metadata(self) -> dict[str, Any]:
        """Give the ``tokenizer.*`` keys for a GGUF file.

        A template that writes BOS stays as it is even where ``add_bos`` is set:
        llama-cpp-python adds no BOS to a rendered chat and llama-server drops the
        second one, so raw text and chats both begin with exactly one.

        Returns:
            Keys to values for ``simplex_jax.gguf.write``.
        """
        return metadata_from_vocabulary(self)

    def save_hf(self, folder: str | os.PathLike[str]) -> None:
        """Write ``tokenizer.json`` and its companions for transformers.

        Args:
            folder: Where to write; made if it is not there.

        Raises:
            OSError: The folder cannot be written.
        """
        write_folder(self, folder)
