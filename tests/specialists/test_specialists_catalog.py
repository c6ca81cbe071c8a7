"""Every generator of the catalog, through the same properties."""

import json
import math
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import pytest
from draws import draws
from hypothesis import given
from hypothesis import strategies as st

from simplex_jax import specialists

# A new entry joins this table: half the SHA-256 of 50 examples of each split.
CONTRACT = {
    "sentiment_analysis": "601253e9499cee2dcc5d382ff98f6371",
    "document_extraction": "3db2f8b26e7a5d10212fe7b2ff6c10d8",
    "neural_ir": "4ff9dacb4f7885f1a7d4f6924928c94d",
}
SPLITS = ("train", "heldout")
names = pytest.mark.parametrize("name", CONTRACT)
splits = pytest.mark.parametrize("split", SPLITS)

DIGEST = """
import hashlib, json, sys
from simplex_jax import specialists
whole = hashlib.sha256()
for split in ("train", "heldout"):
    for e in specialists.generate(sys.argv[1], 50, seed=7, split=split):
        whole.update(json.dumps([e.chat(), e.metadata]).encode())
print(whole.hexdigest()[:32])
"""


MANY = """
import json, sys
from simplex_jax import specialists
for e in specialists.generate(sys.argv[1], 6_000, seed=12):
    print(json.dumps({"prompt": e.prompt, "metadata": e.metadata}))
"""


def run(code, name):
    done = subprocess.run(
        [sys.executable, "-c", code, name], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture(scope="module")
def many():
    """6,000 training examples of each generator, from a process without type checks."""
    return {
        name: [SimpleNamespace(**json.loads(x)) for x in run(MANY, name).splitlines()]
        for name in CONTRACT
    }


def wrong_answers(example):
    """Yield readable responses that are not the expected one."""
    answer = example.metadata["answer"]
    name = example.metadata["generator"]
    if name == "sentiment_analysis":
        for label in {"positive", "negative", "neutral"} - {answer}:
            yield f"{label} (0.90)"
    elif name == "document_extraction":
        fields = json.loads(answer)
        for key, value in fields.items():
            changed = value + 1 if isinstance(value, int) else value[:-1] + "x"
            yield json.dumps({**fields, key: changed, "confidence": 0.9})
            yield json.dumps({k: v for k, v in fields.items() if k != key})
        yield json.dumps({**fields, "more": 1})
    else:
        yield f"not({answer}) (0.90)"
        yield f"and({answer}, not({answer})) (0.90)"


def test_the_contract_lists_every_entry():
    assert set(CONTRACT) == set(specialists.CATALOG)
    for name, entry in specialists.CATALOG.items():
        assert entry.name == name == specialists.entry(name).name
        assert isinstance(entry.generate, specialists.Generator)
        assert isinstance(entry.verify, specialists.Verifier)


@names
def test_the_same_seed_gives_the_same_bytes_in_another_process(name):
    assert run(DIGEST, name).strip() == CONTRACT[name]


@names
@given(
    seed=st.integers(0, 2**40),
    index=st.integers(0, 10**6),
    split=st.sampled_from(SPLITS),
)
@draws(60)
def test_every_example_passes_its_verifier(name, seed, index, split):
    entry = specialists.CATALOG[name]
    example = entry.generate(seed, index, split)
    assert example == entry.generate(seed, index, split)
    meta = example.metadata
    found = entry.verify(example.prompt, example.response)
    assert found.parsed and found.correct and found.score == 1
    assert found.answer == found.expected == meta["answer"]
    assert found.expected_confidence == meta["posterior"]
    assert found.confidence == meta["confidence"]
    assert abs(meta["confidence"] - meta["posterior"]) <= 0.005 + 1e-12
    assert 0.55 <= meta["posterior"] < 0.995
    for response in wrong_answers(example):
        found = entry.verify(example.prompt, response)
        assert found.parsed and not found.correct, response
    for response in ("", "I do not know.", "{", '{"a": [', "and(", "{}}", "0.9"):
        assert not entry.verify(example.prompt, response).correct


@names
def test_the_verifier_sees_the_prompt_alone(name):
    example = specialists.generate(name, 1, seed=3)[0]
    assert specialists.verify(name, example.prompt, example.response).correct
    with pytest.raises(ValueError, match="prompt"):
        specialists.verify(name, "What is the weather like?", example.response)
    with pytest.raises(ValueError, match="prompt"):
        specialists.verify(name, example.prompt + " ", example.response)


@names
def test_stated_confidence_is_calibrated_against_the_truth(name, many):
    examples = many[name]
    hits = [e.metadata["truth"] == e.metadata["answer"] for e in examples]
    exact = [e.metadata["posterior"] for e in examples]
    stated = [e.metadata["confidence"] for e in examples]
    bins = {}
    for hit, p, c in zip(hits, exact, stated, strict=True):
        bins.setdefault(min(int(c * 20), 19), []).append((hit, p, c))
    # 240,000 examples of another seed: 27 bins, the farthest 1.84 sigma away.
    error = 0.0
    for rows in bins.values():
        n = len(rows)
        accuracy = sum(hit for hit, _, _ in rows) / n
        sigma = math.sqrt(sum(p * (1 - p) for _, p, _ in rows)) / n
        assert abs(accuracy - sum(p for _, p, _ in rows) / n) <= 3 * sigma
        gap = abs(accuracy - sum(c for _, _, c in rows) / n)
        assert gap <= 3 * sigma + 0.005
        error += gap * n / len(examples)
    assert error < 0.02
    brier = sum((c - hit) ** 2 for c, hit in zip(stated, hits, strict=True))
    expected = sum(p * (1 - p) for p in exact)
    assert abs(brier - expected) / len(examples) < 0.01
    assert len(bins) >= 5 and min(stated) < 0.7 and max(stated) > 0.95


@names
def test_no_prompt_occurs_twice_nor_in_both_splits(name, many):
    heldout = specialists.generate(name, 1_000, seed=12, split="heldout")
    prompts = [e.prompt for e in many[name]] + [e.prompt for e in heldout]
    assert len(set(prompts)) == len(prompts)
    used = {e.metadata["split_hash"] for e in many[name]}
    assert used.isdisjoint(e.metadata["split_hash"] for e in heldout)
    for split, examples in (("train", many[name]), ("heldout", heldout)):
        known = {
            t.id: t.hash
            for t in specialists.CATALOG[name].templates
            if t.split == split
        }
        seen = {e.metadata["template"]: e.metadata["split_hash"] for e in examples}
        assert seen == known


@names
def test_templates_are_told_apart(name):
    templates = specialists.CATALOG[name].templates
    assert len({t.id for t in templates}) == len(templates)
    assert len({t.text for t in templates}) == len(templates)


@names
@splits
def test_a_larger_set_starts_with_the_smaller(name, split):
    few = specialists.generate(name, 5, seed=2, split=split)
    assert specialists.generate(name, 9, seed=2, split=split)[:5] == few
    assert specialists.generate(name, 5, seed=3, split=split) != few
    assert {e.metadata["split"] for e in few} == {split}


@names
def test_metadata_is_json(name):
    meta = specialists.generate(name, 1, seed=0)[0].metadata
    assert json.loads(json.dumps(meta)) == meta
    assert meta["id"] == f"{name}/train/0/0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sentiment_analysi", 1), "did you mean 'sentiment_analysis'"),
        (("poetry", 1), "there are sentiment_analysis, document_extraction"),
        (("neural_ir", 0), "count is 0"),
    ],
)
def test_generate_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        specialists.generate(*arguments)


def test_a_generator_that_runs_dry_says_so(monkeypatch):
    from simplex_jax.specialists import _catalog

    entry = specialists.CATALOG["sentiment_analysis"]
    dry = SimpleNamespace(
        generate=lambda seed, index, split: entry.generate(0, 0, split)
    )
    monkeypatch.setattr(_catalog, "entry", lambda name: dry)
    monkeypatch.setattr(_catalog, "_PATIENCE", 10)
    with pytest.raises(ValueError, match="only 1 distinct prompts"):
        specialists.generate("sentiment_analysis", 2)


def test_classes_are_balanced(many):
    answers = Counter(e.metadata["answer"] for e in many["sentiment_analysis"])
    assert set(answers) == {"positive", "negative", "neutral"}
    assert max(answers.values()) / min(answers.values()) < 1.15
    kinds = Counter(
        e.metadata["template"].split("-")[1] for e in many["document_extraction"]
    )
    assert max(kinds.values()) / min(kinds.values()) < 1.15


def test_the_package_needs_no_jax():
    code = "import sys, simplex_jax.specialists; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
