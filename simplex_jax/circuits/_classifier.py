"""A discrete circuit with its read-out: from bytes to a class, on words of bits."""

from dataclasses import dataclass

import numpy as np

from ._program import Program


@dataclass(frozen=True)
class Classifier:
    """A program between a thermometer and a count of votes.

    Byte i gives the program one input a threshold t, ``x[i] >= t``. The outputs are
    groups of equal size, one a class, and the first class with the most true outputs is
    the answer: that of ``LogicCircuit`` with ``GroupSum`` in HARD.

    Attributes:
        program: with features times thresholds inputs, those of a feature side by side.
        thresholds: of a thermometer, 0 to 255.
        classes: how many.

    Raises:
        ValueError: for thresholds that are no bytes or do not divide the inputs, or
            classes that do not divide the outputs.
    """

    program: Program
    thresholds: tuple[int, ...]
    classes: int

    def __post_init__(self):
        """Check that all counts divide."""
        if not self.thresholds or not all(0 <= t <= 255 for t in self.thresholds):
            raise ValueError(f"thresholds is {self.thresholds}; give numbers 0 to 255")
        if self.program.inputs % len(self.thresholds):
            raise ValueError(
                f"thresholds is {self.thresholds}; give a number of them that divides "
                f"the program's {self.program.inputs} inputs"
            )
        outputs = len(self.program.outputs)
        if self.classes < 1 or outputs % self.classes:
            raise ValueError(
                f"classes is {self.classes}; give a divisor of the program's "
                f"{outputs} outputs"
            )

    @property
    def features(self) -> int:
        """How many bytes a sample has."""
        return self.program.inputs // len(self.thresholds)

    def thermometer(self, x: np.ndarray) -> np.ndarray:
        """Return the program's inputs.

        Args:
            x: (B, features).

        Returns:
            Bools (B, inputs).
        """
        return (x[..., None] >= np.array(self.thresholds)).reshape(len(x), -1)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the class of each sample, 64 samples a word.

        Args:
            x: uint8 (B, features).

        Returns:
            uint8 (B,), below the number of classes.

        Raises:
            ValueError: for another dtype or number of features.
        """
        if x.dtype != np.uint8 or x.ndim != 2 or x.shape[1] != self.features:
            raise ValueError(
                f"x has dtype {x.dtype} and shape {x.shape}; give uint8 and "
                f"(samples, {self.features})"
            )
        bits = np.ascontiguousarray(self.thermometer(x).T)
        bits = np.pad(bits, ((0, 0), (0, -len(x) % 64)))
        words = np.packbits(bits, axis=1, bitorder="little").view(np.uint64)
        groups = self.program(words).reshape(self.classes, -1, words.shape[1])
        planes = [_planes(group) for group in groups]
        votes = np.zeros((self.classes, len(x)), np.uint32)
        for i, group in enumerate(planes):
            for place, plane in enumerate(group):
                octets = np.unpackbits(plane.view(np.uint8), bitorder="little")
                votes[i] += octets[: len(x)].astype(np.uint32) << place
        return votes.argmax(0).astype(np.uint8)

    def to_c(self, name: str = "classify") -> str:
        """Return the source of a C99 function without branches on data.

        Args:
            name: of the function, a C identifier but ``circuit``, which it calls.

        Returns:
            ``void name(const uint8_t *x, uint8_t *y, size_t samples)``: x holds the
            samples' bytes one after the other, y gets their classes.

        Raises:
            ValueError: for a name that is no identifier.
        """
        inputs, outputs = self.program.inputs, len(self.program.outputs)
        size = outputs // self.classes
        bits = "\n".join(
            f"        word[f * {len(self.thresholds)} + {i}] |= "
            f"(uint64_t)(p[f] >= {threshold}) << j;"
            for i, threshold in enumerate(self.thresholds)
        )
        if not (name.isascii() and name.isidentifier()) or name == "circuit":
            raise ValueError(f"name is {name!r}; give a C identifier but circuit")
        circuit = self.program.to_c().replace("\nvoid", "\nstatic void")
        return f"""{circuit}
void {name}(const uint8_t *x, uint8_t *y, size_t samples) {{
  for (size_t at = 0; at < samples; at += 64) {{
    const size_t count = samples - at < 64 ? samples - at : 64;
    uint64_t word[{inputs}] = {{0}}, vote[{outputs}];
    for (size_t j = 0; j < count; j++) {{
      const uint8_t *p = x + (at + j) * {self.features};
      for (size_t f = 0; f < {self.features}; f++) {{
{bits}
      }}
    }}
    circuit(word, vote, 1);
    uint32_t best[64] = {{0}};
    uint8_t winner[64] = {{0}};
    for (size_t c = 0; c < {self.classes}; c++) {{
      /* Bit j of plane[k] is bit k of sample j's count. */
      uint64_t plane[{size.bit_length()}] = {{0}};
      for (size_t g = 0; g < {size}; g++) {{
        uint64_t carry = vote[c * {size} + g];
        for (size_t k = 0; k < {size.bit_length()}; k++) {{
          const uint64_t sum = plane[k] ^ carry;
          carry &= plane[k];
          plane[k] = sum;
        }}
      }}
      for (size_t j = 0; j < 64; j++) {{
        uint32_t total = 0;
        for (size_t k = 0; k < {size.bit_length()}; k++) {{
          total |= (uint32_t)(plane[k] >> j & 1) << k;
        }}
        winner[j] = total > best[j] ? (uint8_t)c : winner[j];
        best[j] = total > best[j] ? total : best[j];
      }}
    }}
    for (size_t j = 0; j < count; j++) y[at + j] = winner[j];
  }}
}}
"""


def _planes(words: np.ndarray) -> list[np.ndarray]:
    """Return the sum of bits (N, words) over N, as planes of bits, the lowest first."""
    planes = [np.zeros_like(words[0]) for _ in range(len(words).bit_length())]
    for carry in words:
        for place, plane in enumerate(planes):
            planes[place], carry = plane ^ carry, plane & carry
    return planes
