"""What is particular to one generator: words, arithmetic, programs, channels."""

import itertools
import json
import re
from collections import Counter
from fractions import Fraction

import pytest
from draws import draws
from hypothesis import given
from hypothesis import strategies as st

from simplex_jax import specialists
from simplex_jax.specialists._draws import Draws
from simplex_jax.specialists._posterior import solve
from simplex_jax.specialists._protocols import read_confidence
from simplex_jax.specialists.cues import _sentiment
from simplex_jax.specialists.cues._sentiment_templates import (
    ADJECTIVES,
    CLASSES,
    ITEMS,
    VERDICTS,
)
from simplex_jax.specialists.cues._sentiment_templates import TEMPLATES as REVIEWS
from simplex_jax.specialists.programs import _neural_ir
from simplex_jax.specialists.programs._gates import GATES, Program, parse, table
from simplex_jax.specialists.records import _documents, _scan


def four_grams(templates):
    return {
        tuple(t.literals[i : i + 4])
        for t in templates
        for i in range(len(t.literals) - 3)
    }


def test_held_out_reviews_share_no_four_words_with_training():
    split = {s: [t for t in REVIEWS if t.split == s] for s in ("train", "heldout")}
    train, heldout = four_grams(split["train"]), four_grams(split["heldout"])
    assert len(train) > 100 and len(heldout) > 50
    assert train.isdisjoint(heldout)
    assert all(len(t.literals) >= 4 for t in REVIEWS)


def test_there_are_enough_review_templates():
    count = Counter((t.split, t.label) for t in REVIEWS)
    assert set(count) == set(itertools.product(("train", "heldout"), CLASSES))
    for (split, _), n in count.items():
        assert n >= (16 if split == "train" else 8)


def test_each_review_template_has_one_verdict_word_that_training_knows():
    verdicts = {w: c for c, words in VERDICTS.items() for w in words.split()}
    adjectives = [w for words in ADJECTIVES.values() for w in words.split()]
    assert len(set(adjectives)) == len(adjectives)
    assert set(adjectives).isdisjoint(verdicts)
    seen = {"train": set(), "heldout": set()}
    for template in REVIEWS:
        words = template.literals
        found = [w for w in words if w in verdicts or w.rstrip("d") in verdicts]
        assert [verdicts[w] for w in found] == [template.label], template.text
        assert set(words).isdisjoint(adjectives), template.text
        assert set(words).isdisjoint(ITEMS), template.text
        seen[template.split].update(found)
    assert seen["heldout"] <= seen["train"] == set(verdicts)


def test_kept_reviews_have_no_tie_and_mostly_follow_their_cues():
    cues = [(c, k) for c in CLASSES for k in ("strong", "mild")]
    for source in _sentiment.SOURCES:
        for verdict, a, b in itertools.product(CLASSES, cues, cues):
            found = _sentiment.posterior(source, ((verdict, "verdict"), a, b))
            votes = Counter((verdict, a[0], b[0])).most_common()
            if found.kept and votes[0][1] > 1:
                assert found.answer == votes[0][0]
            elif found.kept:
                assert found.answer == verdict


def test_a_review_by_hand():
    cues = (("positive", "verdict"), ("positive", "strong"), ("negative", "mild"))
    # p(cues | expressed): 0.9 0.85 0.125, 0.05 0.075 0.75, 0.05 0.075 0.125
    p = [Fraction(n) for n in ("0.095625", "0.0028125", "0.00046875")]
    positive = Fraction("0.98") * p[0] + Fraction("0.01") * (p[1] + p[2])
    found = _sentiment.posterior("Owner", cues)
    assert found.answer == "positive" and found.posterior == positive / sum(p)


@pytest.mark.parametrize(
    ("response", "answer", "confidence"),
    [
        ("positive (0.93)", "positive", 0.93),
        ("The sentiment is Positive.", "positive", None),
        ("**Negative**, confidence: 85%", "negative", 0.85),
        ("neutral (.7)", "neutral", 0.7),
        ("neutral (7)", "neutral", None),
        ("positive or negative (0.5)", None, None),
        ("positively (0.9)", None, None),
        ("", None, None),
    ],
)
def test_sentiment_responses_are_read_robustly(response, answer, confidence):
    example = specialists.generate("sentiment_analysis", 1)[0]
    found = specialists.verify("sentiment_analysis", example.prompt, response)
    assert (found.answer, found.confidence) == (answer, confidence)
    assert found.parsed == (answer is not None)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("(0.93)", 0.93),
        ("93 %", 0.93),
        ("1", 1.0),
        ("v2.5", None),
        ("1.5", None),
        ("120%", None),
        ("nan", None),
        ("9" * 400, None),
    ],
)
def test_read_confidence(text, value):
    assert read_confidence(text) == value


def test_documents_add_up():
    for split in ("train", "heldout"):
        for example in specialists.generate(
            "document_extraction", 300, seed=5, split=split
        ):
            for key in ("truth", "answer"):
                fields = json.loads(str(example.metadata[key]))
                if "total" not in fields:
                    assert re.fullmatch(r"202\d-\d\d-\d\d", fields["date"])
                    continue
                assert fields["subtotal"] + fields["tax"] == fields["total"]
                rate = int(re.findall(r"(\d+)%", example.prompt)[0])
                assert fields["tax"] == (fields["subtotal"] * rate + 50) // 100


def test_the_truth_is_what_a_clean_scan_shows():
    draws = Draws("a clean scan")
    for kind in _documents.FIELDS:
        for _ in range(50):
            slots, truth = _documents._document(draws, kind)
            assert _documents.posterior(kind, slots).answer == truth
            fields = json.loads(truth)
            assert tuple(fields) == _documents.FIELDS[kind]
            prices = [int(slots[n]) for n in "abc" if n in slots]
            assert not prices or sum(prices) == fields["subtotal"]


def test_the_arithmetic_overrules_a_misread_total():
    slots = dict(quality="worn", party="Baker Tools", rate="10", n1="2", n2="2")
    slots |= dict(a="20", b="40", subtotal="60", tax="6", total="86")
    with pytest.raises(ValueError, match="no truth"):
        _documents.posterior("invoice", slots)
    found = _documents.posterior("invoice", slots | {"subtotal": "50", "total": "66"})
    assert json.loads(found.answer)["subtotal"] == 60
    # 6 and 5 may be doubles in subtotal and tax; the prices have no double.
    assert found.posterior == 1


@given(st.text("0123456789", min_size=1, max_size=5), st.integers(1, 20))
@draws()
def test_the_scan_is_a_channel(truth, chance):
    confusable = sum(c in _scan.CONFUSABLE for c in truth)
    images = list(_scan.truths(truth))
    assert images[0] == truth and len(set(images)) == len(images) == 2**confusable
    total = sum(_scan.likelihood(truth, seen, chance) for seen in images)
    assert total == _scan.DENOMINATOR**confusable
    assert _scan.likelihood(truth, truth + "0", chance) == 0
    assert _scan.corrupt(Draws(truth), truth, chance) in images
    assert _scan.corrupt(Draws(truth), truth, 0) == truth


@pytest.mark.parametrize(
    "response",
    [
        '{"party": ' * 5_000,
        '{"a": ' + "9" * 5_000 + "}",
        '{"a": NaN, "confidence": NaN}',
        '{"confidence": true}',
        '{"a": ' + "[" * 900 + "]" * 900 + "}",
    ],
)
def test_hostile_json_is_no_right_answer(response):
    example = specialists.generate("document_extraction", 1)[0]
    found = specialists.verify("document_extraction", example.prompt, response)
    assert not found.correct and found.score == 0 and found.confidence is None


def test_a_document_scores_by_its_fields():
    example = specialists.generate("document_extraction", 1)[0]
    fields = json.loads(str(example.metadata["answer"]))
    half = dict.fromkeys(fields, "x") | {"party": fields["party"]}
    found = specialists.verify("document_extraction", example.prompt, f"Sure:\n{half}")
    assert not found.parsed
    found = specialists.verify("document_extraction", example.prompt, json.dumps(half))
    assert found.parsed and found.score == pytest.approx(1 / len(fields))
    backwards = json.dumps(dict(reversed(fields.items())))
    found = specialists.verify(
        "document_extraction", example.prompt, f"```json\n{backwards}```"
    )
    assert found.correct and found.answer == example.metadata["answer"]
    assert found.confidence is None


def test_the_ten_programs_are_all_functions_of_both_inputs():
    tables = set(_neural_ir._TABLES.values())
    both = {
        t
        for t in itertools.product((False, True), repeat=4)
        if (t[0], t[1]) != (t[2], t[3]) and (t[0], t[2]) != (t[1], t[3])
    }
    assert tables == both and len(tables) == len(_neural_ir._TABLES) == 10


def test_any_program_of_the_same_function_is_right():
    example = next(
        e
        for e in specialists.generate("neural_ir", 200)
        if str(e.metadata["answer"]).startswith("xor(")
    )
    x, y = str(example.metadata["answer"])[4:-1].split(", ")
    for program in (
        f"XOR({y}, {x}) (0.5)",
        f"The gate is not(iff({x},{y})), 50%",
        f"and(or({x}, {y}), nand({x}, {y}))",
    ):
        found = specialists.verify("neural_ir", example.prompt, program)
        assert found.correct and found.answer == example.metadata["answer"]
    for program in (f"xor({x})", f"xor({x}, z)", f"{x}", "not(" * 10_000):
        assert not specialists.verify("neural_ir", example.prompt, program).parsed
    found = specialists.verify("neural_ir", example.prompt, f"and({x}, {x}) (0.5)")
    assert found.parsed and not found.correct and found.answer == f"and({x}, {x})"


programs = st.recursive(
    st.sampled_from("ab").map(Program),
    lambda inner: st.one_of(
        inner.map(lambda p: Program("not", (p,))),
        st.tuples(st.sampled_from(sorted(set(GATES) - {"not"})), inner, inner).map(
            lambda t: Program(t[0], t[1:])
        ),
    ),
    max_leaves=8,
)


@given(programs)
def test_programs_are_read_as_written(program):
    read, rest = parse(f"{program} (0.93)", ("a", "b"))
    assert read == program and rest == " (0.93)"
    assert table(read, ("a", "b")) == table(program, ("a", "b"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("maybe(a, b)", "'maybe' is neither a gate"),
        ("and(a b)", "'b' stands where"),
        ("not(a, b)", "has 2 inputs; it takes 1"),
        ("and", "no name or bracket at character 3"),
        ("and a", "followed by 'a'"),
        ("not(" * 60, "more than 50 deep"),
    ],
)
def test_broken_programs_are_refused(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse(text, ("a", "b"))


def test_solve_breaks_ties_by_order_and_refuses_the_impossible():
    assert solve({"b": 2, "a": 2}).answer == "b"
    assert solve({"a": 1, "b": 3}).posterior == Fraction(3, 4)
    assert solve({"a": 1, "b": 2}).confidence == "0.67"
    with pytest.raises(ValueError, match="no truth"):
        solve({"a": 0})


def test_draws_follow_their_weights():
    draws = Draws("weights")
    n = 20_000
    seen = Counter(draws.weighted("abc", (1, 2, 5)) for _ in range(n))
    for value, weight in zip("abc", (1, 2, 5), strict=True):
        assert abs(seen[value] / n - weight / 8) < 0.015
    assert abs(sum(draws.percent(30) for _ in range(n)) / n - 0.3) < 0.015
    assert Draws(1, "a", 2).below(10**9) == Draws(1, "a", 2).below(10**9)
    assert Draws(1, "a", 2).below(10**9) != Draws(1, "a", 3).below(10**9)
