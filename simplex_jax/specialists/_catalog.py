"""The catalog of specialists, and data sets drawn from it."""

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from .._checks import at_least, one_of
from ..data import Example, prompt_hash
from ._entry import CatalogEntry
from ._protocols import Split, Verification
from .cues import SENTIMENT_ANALYSIS
from .programs import NEURAL_IR
from .records import DOCUMENT_EXTRACTION

# A stream that gives this many known prompts in a row has nothing new to give.
_PATIENCE = 10_000


CATALOG: Mapping[str, CatalogEntry] = MappingProxyType(
    {each.name: each for each in (SENTIMENT_ANALYSIS, DOCUMENT_EXTRACTION, NEURAL_IR)}
)
"""Every specialist there is, by name."""


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
