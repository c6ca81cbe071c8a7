"""The ``simplex-jax`` command."""

from ._main import main as main
