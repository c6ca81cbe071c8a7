"""The catalog of generators, and data sets drawn from it."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from .._checks import at_least, one_of
from . import _documents, _neural_ir, _sentiment
from ._document_templates import TEMPLATES as DOCUMENT_TEMPLATES
from ._example import Example, prompt_hash
from ._gate_templates import TEMPLATES as GATE_TEMPLATES
from ._posterior import Solution
from ._protocols import Generator, Split, Verification, Verifier
from ._sentiment_templates import TEMPLATES as SENTIMENT_TEMPLATES
from ._template import Template

# A stream that gives this many known prompts in a row has nothing new to give.
_PATIENCE = 10_000


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


CATALOG: Mapping[str, CatalogEntry] = MappingProxyType(
    {
        "sentiment_analysis": CatalogEntry(
            "sentiment_analysis",
            "Names the sentiment of a product review and its probability.",
            _sentiment.generate,
            _sentiment.infer,
            _sentiment.verify,
            SENTIMENT_TEMPLATES,
        ),
        "document_extraction": CatalogEntry(
            "document_extraction",
            "Reads invoices, receipts and letters from bad scans into JSON.",
            _documents.generate,
            _documents.infer,
            _documents.verify,
            DOCUMENT_TEMPLATES,
        ),
        "neural_ir": CatalogEntry(
            "neural_ir",
            "Writes the logic program of a gate from words and noisy readings.",
            _neural_ir.generate,
            _neural_ir.infer,
            _neural_ir.verify,
            GATE_TEMPLATES,
        ),
    }
)
"""Every generator there is, by name."""


def entry(name: str) -> CatalogEntry:
    """Look up a generator.

    Args:
        name: a key of ``CATALOG``.

    Returns:
        The entry.

    Raises:
        ValueError: there is none of that name; the message lists those there
            are, and the nearest one.
    """
    if name in CATALOG:
        return CATALOG[name]
    near = difflib.get_close_matches(name, CATALOG, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"no generator {name!r}; there are {', '.join(CATALOG)}{hint}")


def generate(
    name: str, count: int, *, seed: int = 0, split: Split = "train"
) -> list[Example]:
    """Draw a data set without duplicates.

    Examples are drawn at the indices 0, 1, 2 and so on; one whose prompt
    occurred before is left out. A larger count with the same seed starts with
    the same examples.

    Args:
        name: a key of ``CATALOG``.
        count: how many examples, at least 1.
        seed: any integer.
        split: ``train`` or ``heldout``; they share no template.

    Returns:
        The examples.

    Raises:
        ValueError: an argument is out of range, or the generator has fewer
            distinct prompts than ``count``.
    """
    found = entry(name)
    at_least("count", count)
    one_of("split", split, ("train", "heldout"))
    examples: dict[str, Example] = {}
    index = newest = 0
    while len(examples) < count:
        example = found.generate(seed, index, split)
        digest = prompt_hash(example)
        if digest not in examples:
            examples[digest] = example
            newest = index
        elif index - newest > _PATIENCE:
            raise ValueError(
                f"count is {count}, and {name!r} gave only {len(examples)} distinct "
                f"prompts for split {split!r}; ask for fewer"
            )
        index += 1
    return list(examples.values())


def verify(name: str, prompt: str, response: str) -> Verification:
    """Judge a response by the prompt's text alone.

    Args:
        name: a key of ``CATALOG``.
        prompt: one that this generator drew.
        response: what a model answered.

    Returns:
        What was read, and what was expected.

    Raises:
        ValueError: there is no such generator, or the prompt is not its own.
    """
    return entry(name).verify(prompt, response)
