"""``neural_ir``: the logic program of a gate that is described and measured.

The truth is one of ten programs, all the Boolean functions that depend on both
inputs, each as likely. A designer describes the true function in 90 of 100
cases, an intern in 60; otherwise one of the nine others, each as likely. Each
of the four measured outputs is flipped by itself with the chance the prompt
states. Inputs read in the question's order: 01 is the first off, the second on.
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
from ._gate_templates import PROGRAMS, TEMPLATES
from ._gates import Program, parse, table

NAME = "neural_ir"
# How often each describes the true function, in percent.
AUTHORS = {"designer": 90, "intern": 60}
FLIPS = (10, 20, 30)
INPUTS = (("a", "b"), ("c", "d"), ("p", "q"), ("r", "s"), ("u", "v"), ("x", "y"))

_QUESTION = re.compile(r"Gate over (\w), (\w): program \(confidence\)\?")
_TABLES = {
    text: table(parse(text.format(x="x", y="y"), ("x", "y"))[0], ("x", "y"))
    for text in PROGRAMS
}
_START = re.compile(r"\b(?:not|and|or|xor|iff|nand|nor|implies)\s*\(", re.IGNORECASE)


def generate(seed: int, index: int, split: Split) -> Example:
    """Draw one gate; the same arguments give the same bytes.

    Args:
        seed: of the whole data set.
        index: of the example.
        split: which descriptions and frames to use.

    Returns:
        The example.
    """
    draws = Draws(seed, f"{NAME}/{split}", index)
    while True:
        truth = draws.choice(PROGRAMS)
        author = draws.choice(list(AUTHORS))
        described = truth
        if not draws.percent(AUTHORS[author]):
            described = draws.choice([p for p in PROGRAMS if p != truth])
        flip = draws.choice(FLIPS)
        readings = tuple(out != draws.percent(flip) for out in _TABLES[truth])
        x, y = draws.choice(INPUTS)
        template = draws.choice(_by_program(split, described))
        solution = posterior(author, described, flip, readings)
        if solution.kept:
            break
    names = {"x": x, "y": y}
    outputs = {f"r{i}": str(int(out)) for i, out in enumerate(readings)}
    text = template.fill(author=author, flip=str(flip), **names, **outputs)
    prompt = f"Gate over {x}, {y}: program (confidence)?\n{text}"
    answer = solution.answer.format(**names)
    metadata = provenance(
        NAME, split, seed, index, template, truth.format(**names), answer, solution
    )
    return Example.from_pair(prompt, f"{answer} ({solution.confidence})", metadata)


@functools.cache
def posterior(
    author: str, described: str, flip: int, readings: tuple[bool, ...]
) -> Solution:
    """Return the most probable program.

    Args:
        author: a key of ``AUTHORS``.
        described: the program that the description stands for.
        flip: the chance of each reading to be wrong, in percent.
        readings: the outputs measured for 00, 01, 10 and 11.

    Returns:
        The program over ``{x}`` and ``{y}``, and its exact posterior.
    """
    right = AUTHORS[author]
    weights = {}
    for truth, outputs in _TABLES.items():
        weight = 9 * right if truth == described else 100 - right
        for out, reading in zip(outputs, readings, strict=True):
            weight *= 100 - flip if out == reading else flip
        weights[truth] = weight
    return solve(weights)


def infer(prompt: str) -> Solution:
    """Recompute the answer from a prompt's text.

    Args:
        prompt: a generated prompt.

    Returns:
        The program and its exact posterior.

    Raises:
        ValueError: the prompt is not one of this generator's.
    """
    solution, (x, y) = _infer(prompt)
    return Solution(solution.answer.format(x=x, y=y), solution.posterior)


def verify(prompt: str, response: str) -> Verification:
    """Judge a response by the prompt's text alone.

    The response's first program is run on every input. Programs that compute
    one function are one answer, reported in the text of the ten.

    Args:
        prompt: a generated prompt.
        response: such as ``xor(a, b) (0.87)``.

    Returns:
        What was read, and what was expected.

    Raises:
        ValueError: the prompt is not one of this generator's.
    """
    found, inputs = _infer(prompt)
    x, y = inputs
    solution = Solution(found.answer.format(x=x, y=y), found.posterior)
    start = _START.search(response)
    if start is None:
        return verdict(solution, None, None)
    try:
        program, rest = parse(response[start.start() :].lower(), inputs)
    except ValueError:
        return verdict(solution, None, None)
    return verdict(solution, _canonical(program, inputs), read_confidence(rest))


def _infer(prompt: str) -> tuple[Solution, tuple[str, str]]:
    question, _, text = prompt.partition("\n")
    match = _QUESTION.fullmatch(question)
    if match is None or (inputs := (match[1], match[2])) not in INPUTS:
        raise ValueError(
            f"prompt {prompt[:60]!r} is no question of {NAME}; verify only prompts "
            "that it generated"
        )
    slots = (
        ("x", inputs[0]),
        ("y", inputs[1]),
        ("author", "|".join(AUTHORS)),
        ("flip", "|".join(map(str, FLIPS))),
        *((f"r{i}", "[01]") for i in range(4)),
    )
    template, found = read(text, TEMPLATES, slots)
    readings = tuple(found[f"r{i}"] == "1" for i in range(4))
    flip = int(found["flip"])
    return posterior(found["author"], template.label, flip, readings), inputs


def _canonical(program: Program, inputs: tuple[str, str]) -> str:
    outputs = table(program, inputs)
    for text, known in _TABLES.items():
        if outputs == known:
            return text.format(x=inputs[0], y=inputs[1])
    # A function of fewer inputs, which is never the truth.
    return str(program)


@functools.cache
def _by_program(split: str, program: str) -> tuple[Template, ...]:
    return tuple(t for t in TEMPLATES if t.split == split and t.label == program)


NEURAL_IR = CatalogEntry(
    NAME,
    "Writes the logic program of a gate from words and noisy readings.",
    generate,
    infer,
    verify,
    TEMPLATES,
)
