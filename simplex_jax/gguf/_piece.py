"""Some rows of a tensor, on their way into a file."""

from dataclasses import dataclass

import numpy as np

from ._codecs import dequantize_array, quantize_array
from ._types import GGMLType, block_size


@dataclass(frozen=True)
class Piece:
    """Rows of a tensor, and the type that they get.

    Attributes:
        tensor: its name.
        shape: rows, columns.
        values: floats of ``shape``, or bytes of the type ``stored``.
        stored: the type of the bytes, or None.
        type: to be encoded in.
        importance: of the columns, or None.
        padding_bytes: zeros that follow in the file.
    """

    tensor: str
    shape: tuple[int, int]
    values: np.ndarray
    stored: GGMLType | None
    type: GGMLType
    importance: np.ndarray | None
    padding_bytes: int

    @property
    def is_work(self) -> bool:
        """Whether encoding takes longer than handing the rows to a worker."""
        return self.type != self.stored and block_size(self.type)[0] > 1


def encode(piece: Piece) -> np.ndarray:
    """Return the bytes of some rows.

    Args:
        piece: the rows.

    Returns:
        uint8 (nbytes,).

    Raises:
        ValueError: as ``quantize_array``; names the tensor.
    """
    values = piece.values
    if piece.stored == piece.type:
        return values.reshape(-1)
    try:
        if piece.stored is not None:
            values = dequantize_array(values, piece.stored, piece.shape)
        return quantize_array(values, piece.type, piece.importance).reshape(-1)
    except ValueError as error:
        raise ValueError(f"tensor {piece.tensor!r}: {error}") from error
