"""Run the command as ``python -m simplex_jax.cli``."""

from ._main import main

main()
