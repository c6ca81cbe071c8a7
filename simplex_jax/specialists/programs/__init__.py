"""Programs of a closed set, told by words and noisy measurements."""

from ._neural_ir import NEURAL_IR as NEURAL_IR
