"""What the catalog holds of a specialist."""

from collections.abc import Callable
from dataclasses import dataclass

from ._posterior import Solution
from ._protocols import Generator, Verifier
from ._template import Template


@dataclass(frozen=True)
class CatalogEntry:
    """A specialist's data: how to draw it and how to judge answers.

    Attributes:
        name: the key in ``CATALOG``.
        summary: what the specialist does, in one line.
        generate: draws one example.
        infer: recomputes the best answer from a prompt.
        verify: judges a response to a prompt.
        templates: those of both splits.
    """

    name: str
    summary: str
    generate: Generator
    infer: Callable[[str], Solution]
    verify: Verifier
    templates: tuple[Template, ...]
