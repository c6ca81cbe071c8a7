"""``sentiment_analysis``: the class of a product review, and how sure one can be.

The truth is one of three classes, each as likely. Who reports it decides how
often the review expresses the truth (``SOURCES``); otherwise it expresses one
of the two other classes. Three cues then follow the expressed class, each by
itself: the sentence's verdict and two adjectives, strong or mild. A cue that
does not follow shows one of the two other classes.
"""

import functools
import re

from ...data import Example
from .._draws import Draws
from .._entry import CatalogEntry
from .._posterior import Solution, solve
from .._protocols import Split, Verification, read_confidence, verdict
from .._provenance import provenance
from .._template import Template, read
from ._sentiment_templates import ADJECTIVES, CLASSES, ITEMS, TEMPLATES

NAME = "sentiment_analysis"
QUESTION = "Positive, negative or neutral? Answer as label (confidence)."

# Chances in 200, so that half of what remains is a whole number.
DENOMINATOR = 200
SOURCES = {
    "Verified buyer": 196,
    "Owner": 196,
    "Second hand": 170,
    "Friend of a buyer": 170,
    "Rumour": 140,
    "Hearsay": 140,
}
FOLLOWS = {"verdict": 180, "strong": 170, "mild": 150}

_WORDS = {word: cue for cue, words in ADJECTIVES.items() for word in words.split()}
_ADJECTIVE = "|".join(_WORDS)
_SLOTS = (("item", "|".join(ITEMS)), ("a", _ADJECTIVE), ("b", _ADJECTIVE))
_LABEL = re.compile(rf"\b({'|'.join(CLASSES)})\b", re.IGNORECASE)

Cue = tuple[str, str]
"""The class that a cue shows, and its key in ``FOLLOWS``."""


def generate(seed: int, index: int, split: Split) -> Example:
    """Draw one review; the same arguments give the same bytes.

    Args:
        seed: of the whole data set.
        index: of the example.
        split: which sentences to use.

    Returns:
        The example.
    """
    draws = Draws(seed, f"{NAME}/{split}", index)
    while True:
        truth = draws.choice(CLASSES)
        source = draws.choice(list(SOURCES))
        expressed = _channel(draws, truth, SOURCES[source])
        shown = _channel(draws, expressed, FOLLOWS["verdict"])
        template = draws.choice(_by_label(split, shown))
        words = [_adjective(draws, expressed) for _ in range(2)]
        item = draws.choice(ITEMS)
        sentence = template.fill(item=item, a=words[0], b=words[1])
        prompt = f"{QUESTION}\n{source}: {sentence}"
        cues = ((shown, "verdict"), _WORDS[words[0]], _WORDS[words[1]])
        solution = posterior(source, cues)
        if words[0] != words[1] and solution.kept:
            break
    metadata = provenance(
        NAME, split, seed, index, template, truth, solution.answer, solution
    )
    response = f"{solution.answer} ({solution.confidence})"
    return Example.from_pair(prompt, response, metadata)


@functools.cache
def posterior(source: str, cues: tuple[Cue, ...]) -> Solution:
    """Return the most probable class given who reports it and the cues.

    Args:
        source: a key of ``SOURCES``.
        cues: each one's class and key in ``FOLLOWS``.

    Returns:
        The class and its exact posterior.
    """
    weights: dict[str, int] = dict.fromkeys(CLASSES, 0)
    for truth in CLASSES:
        for expressed in CLASSES:
            weight = _chance(expressed, truth, SOURCES[source])
            for shown, kind in cues:
                weight *= _chance(shown, expressed, FOLLOWS[kind])
            weights[truth] += weight
    return solve(weights)


def infer(prompt: str) -> Solution:
    """Recompute the answer from a prompt's text.

    Args:
        prompt: a generated prompt.

    Returns:
        The class and its exact posterior.

    Raises:
        ValueError: the prompt is not one of this generator's.
    """
    question, _, review = prompt.partition("\n")
    source, _, sentence = review.partition(": ")
    if question != QUESTION or source not in SOURCES:
        raise ValueError(
            f"prompt {prompt[:60]!r} is no question of {NAME}; verify only prompts "
            "that it generated"
        )
    template, slots = read(sentence, TEMPLATES, _SLOTS)
    cues = ((template.label, "verdict"), _WORDS[slots["a"]], _WORDS[slots["b"]])
    return posterior(source, cues)


def verify(prompt: str, response: str) -> Verification:
    """Judge a response by the prompt's text alone.

    A response is readable where it names exactly one class.

    Args:
        prompt: a generated prompt.
        response: such as ``positive (0.93)``.

    Returns:
        What was read, and what was expected.

    Raises:
        ValueError: the prompt is not one of this generator's.
    """
    solution = infer(prompt)
    labels = {label.lower() for label in _LABEL.findall(response)}
    if len(labels) != 1:
        return verdict(solution, None, None)
    return verdict(solution, labels.pop(), read_confidence(response))


def _chance(shown: str, truth: str, follows: int) -> int:
    return follows if shown == truth else (DENOMINATOR - follows) // 2


def _channel(draws: Draws, truth: str, follows: int) -> str:
    weights = [_chance(shown, truth, follows) for shown in CLASSES]
    return draws.weighted(CLASSES, weights)


def _adjective(draws: Draws, expressed: str) -> str:
    kind = draws.choice(("strong", "mild"))
    shown = _channel(draws, expressed, FOLLOWS[kind])
    return draws.choice(ADJECTIVES[shown, kind].split())


@functools.cache
def _by_label(split: str, label: str) -> tuple[Template, ...]:
    return tuple(t for t in TEMPLATES if t.split == split and t.label == label)


SENTIMENT_ANALYSIS = CatalogEntry(
    NAME,
    "Names the sentiment of a product review and its probability.",
    generate,
    infer,
    verify,
    TEMPLATES,
)
