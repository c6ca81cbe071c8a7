"""Train models: so far, the loss that training minimises."""

from ._loss import nll as nll
