"""What a user wants otherwise than a file type has it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ._codecs import ENCODABLE, encodable_names
from ._types import GGMLType, as_type


@dataclass(frozen=True)
class Overrides:
    """Override the types that a file type gives to tensors.

    The words are those of ``llama-quantize``. Types are ``GGMLType`` or their names,
    upper or lower case.

    Attributes:
        pure: the file's own type everywhere; rows that do not divide into its
            blocks still fall back.
        tensor_type: pairs of a regular expression and a type. The first expression
            found in a tensor's name decides; rows that do not divide into its
            blocks fall back. Without effect in files of F32, F16 and BF16.
        output_tensor_type: of the matrix that makes the logits. Where it is
            ``token_embd.weight``, only if neither ``pure``, ``tensor_type`` nor
            ``token_embedding_type`` says otherwise.
        token_embedding_type: of ``token_embd.weight``.
        leave_output_tensor: ``output.weight`` keeps the type that it has.

    Raises:
        ValueError: a type that cannot be written, or a regular expression that is
            none.
    """

    pure: bool = False
    tensor_type: Sequence[tuple[str, GGMLType | str]] = ()
    output_tensor_type: GGMLType | str | None = None
    token_embedding_type: GGMLType | str | None = None
    leave_output_tensor: bool = False

    def __post_init__(self) -> None:
        """Check types and expressions."""
        for pattern, type in self.tensor_type:
            _check(type, f"tensor_type {pattern!r}")
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(
                    f"tensor_type {pattern!r} is no regular expression: {error}"
                ) from None
        for name in ("output_tensor_type", "token_embedding_type"):
            type = getattr(self, name)
            if type is not None:
                _check(type, name)

    def type_of(self, tensor: str) -> GGMLType | None:
        """Return what ``tensor_type`` says of a tensor.

        Args:
            tensor: its name.

        Returns:
            The type beside the first expression found in the name, or None.
        """
        for pattern, type in self.tensor_type:
            if re.search(pattern, tensor):
                return as_type(type)
        return None


def _check(type: GGMLType | str, what: str) -> None:
    try:
        kind = as_type(type)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None
    if kind not in ENCODABLE:
        raise ValueError(
            f"{what}: {kind.name} cannot be written; use one of {encodable_names()}"
        )
