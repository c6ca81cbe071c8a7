"""``document_extraction``: the fields of a badly scanned document, as JSON.

Invoices, receipts and letters. Digits suffer the confusions of ``_scan``; the
quality that the document states gives their chance, and copies that are
stamped suffer twice as often as what is typed. Everything else is printed as
it is. Numbers and references are drawn digit by digit, prices from 10 to 99
and letters' amounts from 100 to 999, all equally likely; the subtotal is the
sum of the prices, the tax its percentage rounded half up, the total their sum.
So several copies, and the arithmetic, tell which reading is the likeliest.
"""

import functools
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

from ...data import Example
from .._draws import Draws
from .._entry import CatalogEntry
from .._posterior import Solution, solve
from .._protocols import Split, Verification, verdict
from .._provenance import provenance
from .._template import Template, read
from ._document_templates import ITEMS, MONTHS, SURNAMES, TEMPLATES, TRADES
from ._scan import copies, corrupt, likelihood, truths

NAME = "document_extraction"
FIELDS = {
    "invoice": ("party", "number", "subtotal", "tax", "total"),
    "receipt": ("party", "number", "subtotal", "tax", "total"),
    "letter": ("party", "date", "reference", "amount"),
}
# Chance in percent that a typed digit is taken for its double.
QUALITIES = {"clear": 1, "worn": 4, "faded": 8}
RATES = ("5", "10", "20")

_MONTHS: Sequence[str] = MONTHS
_NUMBERS = "n1 n2 r1 r2 r3 m1 m2 a b c subtotal tax total t1 t2".split()
_STAMPED = {"n2", "r2", "r3", "m2", "t2"}
_SLOTS = (
    ("quality", "|".join(QUALITIES)),
    ("party", f"(?:{'|'.join(SURNAMES)}) (?:{'|'.join(TRADES)})"),
    *((f"i{i}", "|".join(ITEMS)) for i in (1, 2, 3)),
    ("rate", "|".join(RATES)),
    ("date", rf"\d{{1,2}} (?:{'|'.join(MONTHS)}) \d{{4}}"),
    *((name, r"\d{1,4}") for name in _NUMBERS),
)


def generate(seed: int, index: int, split: Split) -> Example:
    """Draw one document; the same arguments give the same bytes.

    Args:
        seed: of the whole data set.
        index: of the example.
        split: which layouts to use.

    Returns:
        The example.
    """
    draws = Draws(seed, f"{NAME}/{split}", index)
    # Once, so that all layouts occur alike, however often each one is kept.
    template = draws.choice(_of_split(split))
    while True:
        slots, truth = _document(draws, template.label)
        typed = QUALITIES[slots["quality"]]
        for name in sorted(set(slots) & set(_NUMBERS)):
            chance = 2 * typed if name in _STAMPED else typed
            slots[name] = corrupt(draws, slots[name], chance)
        solution = posterior(template.label, slots)
        if solution.kept:
            break
    prompt = f"{_question(template.label)}\n{template.fill(**slots)}"
    metadata = provenance(
        NAME, split, seed, index, template, truth, solution.answer, solution
    )
    response = f'{solution.answer[:-1]}, "confidence": {solution.confidence}}}'
    return Example.from_pair(prompt, response, metadata)


def posterior(kind: str, slots: Mapping[str, str]) -> Solution:
    """Return the most probable fields of a document as the scan shows it.

    Args:
        kind: a key of ``FIELDS``.
        slots: what stands in each slot of the layout.

    Returns:
        The fields as canonical JSON, and the exact posterior that all of them
        are right.
    """
    typed = QUALITIES[slots["quality"]]
    fields: dict[str, object] = {"party": slots["party"]}
    parts = []

    def value(*names: str) -> str:
        shown = [(slots[n], 2 * typed if n in _STAMPED else typed) for n in names]
        parts.append(solve(copies(shown)))
        return parts[-1].answer

    if kind == "letter":
        fields["date"] = _iso(slots["date"])
        fields["reference"] = value("r1", "r2", "r3")
        fields["amount"] = int(value("m1", "m2"))
    else:
        names = ("n1", "n2") if kind == "invoice" else ("n1",)
        fields["number"] = value(*names)
        parts.append(solve(_sums(slots, typed)))
        sums = map(int, parts[-1].answer.split())
        fields.update(zip(("subtotal", "tax", "total"), sums, strict=True))
    # Given the quality the parts do not depend on each other.
    probability = math.prod((part.posterior for part in parts), start=Fraction(1))
    return Solution(json.dumps(fields), probability)


def infer(prompt: str) -> Solution:
    """Recompute the answer from a prompt's text.

    Args:
        prompt: a generated prompt.

    Returns:
        The fields as canonical JSON, and their exact posterior.

    Raises:
        ValueError: the prompt is not one of this generator's.
    """
    question, _, document = prompt.partition("\n")
    template, slots = read(document, TEMPLATES, _SLOTS)
    if question != _question(template.label):
        raise ValueError(
            f"prompt {prompt[:60]!r} does not ask for the fields of its "
            f"{template.label}; verify only prompts that {NAME} generated"
        )
    return posterior(template.label, slots)


def verify(prompt: str, response: str) -> Verification:
    """Judge a response by the prompt's text alone.

    A response is readable where its first brace opens a JSON object. The
    score is the share of the expected fields that are right; a response with
    other fields than these and ``confidence`` is not correct.

    Args:
        prompt: a generated prompt.
        response: a JSON object, with whatever text around it.

    Returns:
        What was read, and what was expected.

    Raises:
        ValueError: the prompt is not one of this generator's.
    """
    solution = infer(prompt)
    found = _first_object(response)
    if found is None:
        return verdict(solution, None, None)
    confidence = _probability(found.pop("confidence", None))
    expected = json.loads(solution.answer)
    # In the order of the expected fields, so that equal answers are equal texts.
    order = [key for key in expected if key in found]
    order += [key for key in found if key not in expected]
    try:
        answer = json.dumps({key: _plain(found[key]) for key in order})
    except RecursionError:
        return verdict(solution, None, None)
    right = [key for key in expected if _same(found.get(key), expected[key])]
    return verdict(solution, answer, confidence, len(right) / len(expected))


def _document(draws: Draws, kind: str) -> tuple[dict[str, str], str]:
    fields: dict[str, object] = {
        "party": f"{draws.choice(SURNAMES)} {draws.choice(TRADES)}"
    }
    slots = {"quality": draws.choice(list(QUALITIES)), "party": str(fields["party"])}
    if kind == "letter":
        day, month = 1 + draws.below(28), draws.choice(MONTHS)
        slots["date"] = f"{day} {month} {2020 + draws.below(6)}"
        reference = f"{draws.below(10_000):04d}"
        amount = 100 + draws.below(900)
        slots |= dict.fromkeys(("r1", "r2", "r3"), reference)
        slots |= dict.fromkeys(("m1", "m2"), str(amount))
        fields |= {"date": _iso(slots["date"]), "reference": reference}
        fields |= {"amount": amount}
        return slots, json.dumps(fields)
    number = f"{draws.below(10_000):04d}"
    slots |= dict.fromkeys(("n1", "n2") if kind == "invoice" else ("n1",), number)
    fields["number"] = number
    prices = [10 + draws.below(90) for _ in range(2 if kind == "invoice" else 3)]
    for i, (name, price) in enumerate(zip("abc", prices, strict=False), 1):
        slots |= {name: str(price), f"i{i}": draws.choice(ITEMS)}
    slots["rate"] = draws.choice(RATES)
    subtotal, tax, total = _arithmetic(sum(prices), slots["rate"])
    slots |= {"subtotal": str(subtotal), "tax": str(tax)}
    totals = ("total",) if kind == "invoice" else ("t1", "t2")
    slots |= dict.fromkeys(totals, str(total))
    fields |= {"subtotal": subtotal, "tax": tax, "total": total}
    return slots, json.dumps(fields)


def _sums(slots: Mapping[str, str], typed: int) -> dict[str, int]:
    totals = ("subtotal", "tax", "total", "t1", "t2")
    shown = [(name, slots[name]) for name in totals if name in slots]
    prices = [slots[name] for name in "abc" if name in slots]
    weights: dict[str, int] = {}
    for candidate in itertools.product(*map(truths, prices)):
        subtotal, tax, total = _arithmetic(sum(map(int, candidate)), slots["rate"])
        printed = {"subtotal": subtotal, "tax": tax}
        weight = 1
        for name, seen in shown:
            chance = 2 * typed if name in _STAMPED else typed
            weight *= likelihood(str(printed.get(name, total)), seen, chance)
            if not weight:
                break
        else:
            for truth, seen in zip(candidate, prices, strict=True):
                weight *= likelihood(truth, seen, typed)
            key = f"{subtotal} {tax} {total}"
            weights[key] = weights.get(key, 0) + weight
    return weights


def _arithmetic(subtotal: int, rate: str) -> tuple[int, int, int]:
    tax = (subtotal * int(rate) + 50) // 100
    return subtotal, tax, subtotal + tax


def _iso(date: str) -> str:
    day, month, year = date.split()
    return f"{year}-{_MONTHS.index(month) + 1:02d}-{int(day):02d}"


def _question(kind: str) -> str:
    return f"Extract {', '.join(FIELDS[kind])}, confidence as JSON."


def _first_object(response: str) -> dict[str, object] | None:
    start = response.find("{")
    if start < 0:
        return None
    try:
        found, _ = json.JSONDecoder().raw_decode(response, start)
    except (ValueError, RecursionError):
        return None
    return found


def _probability(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 <= value <= 1 else None


def _plain(value: object) -> object:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _same(found: object, expected: object) -> bool:
    return found == expected and not isinstance(found, bool)


@functools.cache
def _of_split(split: str) -> tuple[Template, ...]:
    return tuple(t for t in TEMPLATES if t.split == split)


DOCUMENT_EXTRACTION = CatalogEntry(
    NAME,
    "Reads invoices, receipts and letters from bad scans into JSON.",
    generate,
    infer,
    verify,
    TEMPLATES,
)
