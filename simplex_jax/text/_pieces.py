"""Token ids to bytes, and bytes to text, whole or one token at a time."""

from __future__ import annotations

import codecs

from ._vocabulary import TokenType, Vocabulary

_SPECIAL = (TokenType.CONTROL, TokenType.UNKNOWN)


def byte_characters() -> dict[int, str]:
    """Give the printable character that stands for each byte in byte-level BPE.

    Printable Latin-1 stands for itself; the other 68 bytes take U+0100 upwards.

    Returns:
        Byte value (0..255) to character.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (b for b in range(256) if b not in printable)
    table = {b: chr(b) for b in printable}
    table.update({b: chr(0x100 + i) for i, b in enumerate(others)})
    return table


_TO_LATIN1 = {ord(character): byte for byte, character in byte_characters().items()}


def piece(vocabulary: Vocabulary, token_id: int) -> bytes:
    """Give the bytes that one token stands for.

    Args:
        vocabulary: The vocabulary.
        token_id: An id in [0, vocab_size).

    Returns:
        Its bytes; empty for unused tokens.

    Raises:
        ValueError: The id is not in the vocabulary.
    """
    if not 0 <= token_id < vocabulary.vocab_size:
        raise ValueError(
            f"token id {token_id} is not in [0, {vocabulary.vocab_size}); decode only"
            " ids of this tokenizer."
        )
    text = vocabulary.tokens[token_id]
    kind = int(vocabulary.token_types[token_id])
    if kind == TokenType.UNUSED:
        return b""
    if kind == TokenType.BYTE:
        return bytes([int(text[1:-1], 16)])
    if kind != TokenType.NORMAL:
        return text.encode()
    if vocabulary.model == "llama":
        return text.replace("▁", " ").encode()
    try:
        return text.translate(_TO_LATIN1).encode("latin-1")
    except UnicodeEncodeError:
        # A token outside the byte alphabet was written there as plain text.
        return text.encode()


def next_piece(
    vocabulary: Vocabulary, token_id: int, *, after_whole: bool, skip_special: bool
) -> tuple[bytes, bool]:
    """Give the bytes of one token of a sequence.

    Encoding with ``add_space_prefix`` puts a space before every run of text,
    that is, at the start and after each token matched as a whole; here it goes
    again.

    Args:
        vocabulary: The vocabulary.
        token_id: The token.
        after_whole: Whether the token begins a run of text: the second return
            value for the token before it.
        skip_special: Whether control and unknown tokens give nothing.

    Returns:
        The bytes, and ``after_whole`` for the next token.

    Raises:
        ValueError: The id is not in the vocabulary.
    """
    data = piece(vocabulary, token_id)
    kind = int(vocabulary.token_types[token_id])
    if after_whole and vocabulary.add_space_prefix and kind == TokenType.NORMAL:
        data = data.removeprefix(b" ")
    special = kind in _SPECIAL
    whole = special or kind == TokenType.USER_DEFINED
    return b"" if skip_special and special else data, whole


class StreamDecoder:
    """Decode tokens as they are generated.

    The texts returned by ``push`` and ``finish``, joined, equal ``decode`` of
    all the ids: a character whose bytes are spread over tokens comes out with
    the token that completes it.

    Args:
        vocabulary: The tokenizer or vocabulary that made the ids.
        skip_special: Whether control and unknown tokens give no text.
        text_start: Whether the first id begins a text; False continues one, so
            that a sentencepiece token keeps its leading space.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        skip_special: bool = True,
        text_start: bool = True,
    ) -> None:
        self._vocabulary = vocabulary
        self._skip_special = skip_special
        self._after_whole = text_start
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """Take the next token.

        Args:
            token_id: Its id.

        Returns:
            The text completed by it, often empty.

        Raises:
            ValueError: The id is not in the vocabulary.
        """
        data, self._after_whole = next_piece(
            self._vocabulary,
            token_id,
            after_whole=self._after_whole,
            skip_special=self._skip_special,
        )
        return self._utf8.decode(data)

    def finish(self) -> str:
        """End the text.

        Returns:
            A replacement character where the last character was incomplete,
            otherwise an empty string.
        """
        return self._utf8.decode(b"", final=True)
