"""Calibration measures against tables made by hand, and what always holds."""

import math
import subprocess
import sys

import numpy as np
import pytest
from draws import draws
from hypothesis import given
from hypothesis import strategies as st

from simplex_jax import evals

MEASURES = [
    evals.reliability,
    evals.expected_calibration_error,
    evals.maximum_calibration_error,
    evals.brier_score,
]
ANSWERS = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60)


def test_a_table_made_by_hand():
    confidence = [0.0, 0.3, 0.39, 0.9, 1.0, 0.95]
    correct = [False, True, False, True, True, False]
    table = evals.reliability(confidence, correct)
    assert [b.count for b in table] == [1, 0, 0, 2, 0, 0, 0, 0, 0, 3]
    assert table[1] == evals.Bin(0.1, 0.2, 0, None, None)
    assert table[3].confidence == pytest.approx(0.345)
    assert table[3].accuracy == 0.5
    assert table[9].confidence == pytest.approx(0.95)
    assert table[9].accuracy == pytest.approx(2 / 3)
    ece = evals.expected_calibration_error(confidence, correct)
    assert ece == pytest.approx((2 * 0.155 + 3 * (0.95 - 2 / 3)) / 6)
    mce = evals.maximum_calibration_error(confidence, correct)
    assert mce == pytest.approx(0.95 - 2 / 3)
    brier = (0.7**2 + 0.39**2 + 0.1**2 + 0.95**2) / 6
    assert evals.brier_score(confidence, correct) == pytest.approx(brier)


@pytest.mark.parametrize("bins", [1, 3, 7, 10, 20])
def test_edges_belong_to_the_bin_above_and_one_to_the_last(bins):
    edges = [k / bins for k in range(bins + 1)]
    counts = [b.count for b in evals.reliability(edges, [True] * len(edges), bins)]
    assert counts == [1] * (bins - 1) + [2]
    # What a model writes: two decimals.
    written = [round(k / 100, 2) for k in range(0, 100, 10)]
    assert all(b.count == 1 for b in evals.reliability(written, [True] * 10))


def test_extremes():
    assert evals.expected_calibration_error([1.0, 0.0], [True, False]) == 0
    assert evals.expected_calibration_error([1.0, 0.0], [False, True]) == 1
    assert evals.maximum_calibration_error([1.0, 0.0], [False, True]) == 1
    assert evals.brier_score([1.0, 0.0], [False, True]) == 1
    assert evals.brier_score([0.5] * 3, [1, 0, 1]) == 0.25


@given(st.lists(st.integers(1, 9), min_size=1, max_size=9, unique=True))
def test_confidences_that_are_met_have_no_error(tenths):
    confidence = np.repeat(np.array(tenths) / 10, 10)
    correct = np.concatenate([np.arange(10) < k for k in tenths])
    assert evals.expected_calibration_error(confidence, correct) < 1e-12
    assert evals.maximum_calibration_error(confidence, correct) < 1e-12


@draws(10)
@given(st.integers(0, 2**32))
def test_drawn_outcomes_have_little_error(seed):
    draws = np.random.default_rng(seed)
    confidence = draws.random(20_000)
    correct = draws.random(20_000) < confidence
    assert evals.expected_calibration_error(confidence, correct) < 0.03


@given(ANSWERS, st.integers(1, 20))
def test_bounds(answers, bins):
    confidence, correct = zip(*answers, strict=True)
    table = evals.reliability(confidence, correct, bins)
    ece = evals.expected_calibration_error(confidence, correct, bins)
    mce = evals.maximum_calibration_error(confidence, correct, bins)
    brier = evals.brier_score(confidence, correct)
    assert sum(b.count for b in table) == len(answers)
    for b in table:
        if b.confidence is not None:
            assert b.low - 1e-12 <= b.confidence <= b.high + 1e-12
    assert 0 <= ece <= mce + 1e-12 <= 1 + 1e-9
    # A bin's squared gap is at most its mean squared error.
    gaps = sum(
        b.count * (b.confidence - b.accuracy) ** 2
        for b in table
        if b.confidence is not None and b.accuracy is not None
    )
    assert ece**2 - 1e-12 <= gaps / len(answers) <= brier + 1e-12


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=60))
def test_brier_is_reliability_minus_resolution_plus_uncertainty(answers):
    # Exact where all answers of a bin have one confidence.
    confidence = np.array([place / 10 + 0.05 for place, _ in answers])
    correct = np.array([right for _, right in answers])
    rate = correct.mean()
    score = rate * (1 - rate)
    for b in evals.reliability(confidence, correct):
        if b.confidence is not None and b.accuracy is not None:
            gap, lift = b.confidence - b.accuracy, b.accuracy - rate
            score += b.count * (gap**2 - lift**2) / len(answers)
    assert evals.brier_score(confidence, correct) == pytest.approx(score, abs=1e-12)


@given(ANSWERS, st.randoms())
def test_order_does_not_matter(answers, random):
    shuffled = list(answers)
    random.shuffle(shuffled)
    for measure in MEASURES[1:]:
        first = measure(*zip(*answers, strict=True))
        assert measure(*zip(*shuffled, strict=True)) == pytest.approx(first, abs=1e-12)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("confidence", "correct", "message"),
    [
        ([], [], r"confidence has shape \(0,\); give one number an answer"),
        ([[0.5]], [True], r"confidence has shape \(1, 1\)"),
        ([0.5, 1.5], [1, 1], r"confidence\[1\] is 1.5; give a number from 0 to 1"),
        ([0.5, -0.1], [1, 1], r"confidence\[1\] is -0.1"),
        ([math.nan], [True], r"confidence\[0\] is nan; leave out"),
        ([0.5, None], [True, True], r"confidence\[1\] is nan; leave out"),
        (["high"], [True], "confidence is no column of numbers"),
        ([0.5], [0.5], r"correct\[0\] is 0.5; give True or False"),
        ([0.5], [], r"correct has shape \(0,\)"),
        ([0.5], [True, True], "confidence has 1, correct has 2 entries"),
    ],
)
def test_bad_input_is_named(measure, confidence, correct, message):
    with pytest.raises(ValueError, match=message):
        measure(confidence, correct)


def test_bins_are_checked():
    with pytest.raises(ValueError, match="bins is 0; give at least 1"):
        evals.reliability([0.5], [True], bins=0)


def test_importing_evals_does_not_load_jax():
    code = "import sys, simplex_jax.evals; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
