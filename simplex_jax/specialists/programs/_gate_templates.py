"""Descriptions of gates, the programs they stand for, and the frames around them.

``{x}`` and ``{y}`` are the inputs, in the order of the question; ``@`` is where a
frame takes the description. A held-out prompt joins a held-out description with
a held-out frame.
"""

from .._template import Template

_TRAIN = {
    "and({x}, {y})": """
        is on only if {x} and {y} are both on
        needs {x} and {y} at once
        stays off unless both {x} and {y} are high
    """,
    "or({x}, {y})": """
        is on if at least one of {x} and {y} is on
        fires for {x}, for {y}, or for both
        stays off only when {x} and {y} are both off
    """,
    "xor({x}, {y})": """
        is on if exactly one of {x} and {y} is on
        fires when {x} and {y} differ
        stays off when {x} matches {y}
    """,
    "iff({x}, {y})": """
        is on if {x} and {y} are equal
        fires when {x} matches {y}
        stays off when {x} and {y} differ
    """,
    "nand({x}, {y})": """
        is off only if {x} and {y} are both on
        fires unless both {x} and {y} are high
        inverts the conjunction of {x} and {y}
    """,
    "nor({x}, {y})": """
        is on only if {x} and {y} are both off
        fires when neither {x} nor {y} is on
        inverts the disjunction of {x} and {y}
    """,
    "implies({x}, {y})": """
        is off only if {x} is on and {y} is off
        demands {y} whenever {x} is on
        fires if {x} is low or {y} is high
    """,
    "implies({y}, {x})": """
        is off only if {y} is on and {x} is off
        demands {x} whenever {y} is on
        fires if {y} is low or {x} is high
    """,
    "and({x}, not({y}))": """
        is on only if {x} is on and {y} is off
        fires for {x} without {y}
        lets {y} block {x}
    """,
    "and(not({x}), {y})": """
        is on only if {y} is on and {x} is off
        fires for {y} without {x}
        lets {x} block {y}
    """,
}

_HELDOUT = {
    "and({x}, {y})": """
        goes high when neither {x} nor {y} is low
        requires {x} as well as {y}
    """,
    "or({x}, {y})": """
        goes high as soon as {x} or {y} does
        accepts any high input among {x} and {y}
    """,
    "xor({x}, {y})": """
        detects a difference between {x} and {y}
        wants one of {x} and {y} high and the other low
    """,
    "iff({x}, {y})": """
        detects agreement of {x} with {y}
        wants {x} and {y} both high or both low
    """,
    "nand({x}, {y})": """
        goes low just when {x} meets {y}
        tolerates anything except {x} together with {y}
    """,
    "nor({x}, {y})": """
        goes low as soon as {x} or {y} rises
        requires silence of {x} and of {y}
    """,
    "implies({x}, {y})": """
        says that {x} implies {y}
        forbids {x} unless {y} comes along
    """,
    "implies({y}, {x})": """
        says that {y} implies {x}
        forbids {y} unless {x} comes along
    """,
    "and({x}, not({y}))": """
        passes {x} while {y} is low
        requires {x} high with {y} absent
    """,
    "and(not({x}), {y})": """
        passes {y} while {x} is low
        requires {y} high with {x} absent
    """,
}

_READINGS = "00={r0} 01={r1} 10={r2} 11={r3}"
_FRAMES = {
    "train": (
        f"{{author}}: the gate @. Measured with {{flip}}% flips: {_READINGS}.",
        f"A gate @, says the {{author}}. Readings, {{flip}}% wrong: {_READINGS}.",
        f"Table {_READINGS}, error {{flip}}%. Note by {{author}}: the gate @.",
    ),
    "heldout": (
        f"According to the {{author}} it @. The probe ({{flip}}% noise) gave "
        f"{_READINGS}.",
        f"Seen at {{flip}}% noise: {_READINGS}. The {{author}} claims that it @.",
    ),
}

PROGRAMS = tuple(_TRAIN)


def _templates() -> tuple[Template, ...]:
    found = []
    for split, descriptions in (("train", _TRAIN), ("heldout", _HELDOUT)):
        for i, (program, block) in enumerate(descriptions.items()):
            for j, words in enumerate(block.strip().splitlines()):
                for k, frame in enumerate(_FRAMES[split]):
                    name = f"{split}-{i}-{j}-{k}"
                    text = frame.replace("@", words.strip())
                    found.append(Template(name, split, program, text))
    return tuple(found)


TEMPLATES = _templates()
