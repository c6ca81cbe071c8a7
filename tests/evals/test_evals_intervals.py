"""The cluster bootstrap equals a loop, and covers what it says."""

import math

import numpy as np
import pytest
from draws import draws
from hypothesis import given
from hypothesis import strategies as st

from simplex_jax import evals

ROWS = st.lists(
    st.tuples(st.floats(-1e3, 1e3), st.sampled_from("abcdef")), min_size=2, max_size=40
).filter(lambda rows: len({label for _, label in rows}) > 1)


def brute_force(values, clusters, level, draws, seed):
    """Redraw clusters one by one and average the values themselves."""
    names = sorted(set(clusters))
    generator = np.random.Generator(np.random.PCG64(seed))
    means = []
    for _ in range(draws):
        drawn = []
        for _ in names:
            name = names[int(generator.integers(len(names)))]
            drawn += [v for v, c in zip(values, clusters, strict=True) if c == name]
        means.append(sum(drawn) / len(drawn))
    means.sort()
    ends = []
    for share in ((1 - level) / 2, (1 + level) / 2):
        place = share * (draws - 1)
        below = math.floor(place)
        above = min(below + 1, draws - 1)
        ends.append(means[below] + (place - below) * (means[above] - means[below]))
    return tuple(ends)


@draws(25)
@given(ROWS, st.sampled_from([0.5, 0.9, 0.95]), st.integers(0, 100))
def test_it_equals_a_loop(rows, level, seed):
    values, clusters = zip(*rows, strict=True)
    found = evals.cluster_interval(values, clusters, level, draws=50, seed=seed)
    expected = brute_force(values, clusters, level, 50, seed)
    assert found == pytest.approx(expected, abs=1e-9)


@draws(25)
@given(ROWS, st.randoms())
def test_it_lies_within_the_values_and_ignores_order(rows, random):
    values, clusters = zip(*rows, strict=True)
    low, high = evals.cluster_interval(values, clusters, draws=100)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    random.shuffle(rows)
    values, clusters = zip(*rows, strict=True)
    again = evals.cluster_interval(values, clusters, draws=100)
    assert again == pytest.approx((low, high), abs=1e-9)


def test_the_same_arguments_give_the_same_interval():
    values, clusters = np.random.default_rng(0).random(40), np.arange(40) % 8
    first = evals.cluster_interval(values, clusters)
    assert first == evals.cluster_interval(values, clusters)
    assert first != evals.cluster_interval(values, clusters, seed=1)
    assert all(type(end) is float for end in first)


def test_a_higher_level_is_wider_and_equal_clusters_have_no_width():
    values, clusters = np.random.default_rng(0).random(40), np.arange(40) % 8
    low, high = evals.cluster_interval(values, clusters, level=0.99)
    inner_low, inner_high = evals.cluster_interval(values, clusters, level=0.5)
    assert low < inner_low < values.mean() < inner_high < high
    assert evals.cluster_interval([0, 1] * 4, list("aabbccdd")) == (0.5, 0.5)


def test_coverage_on_clustered_outcomes():
    draws = np.random.default_rng(0)
    templates, prompts, trials = 30, 10, 300
    clusters = np.repeat(np.arange(templates), prompts)
    covered = np.zeros(2)
    for _ in range(trials):
        # Mean 0.7; templates differ by far more than prompts do.
        chance = np.repeat(draws.beta(1.4, 0.6, templates), prompts)
        right = draws.random(templates * prompts) < chance
        for way, labels in enumerate([clusters, np.arange(templates * prompts)]):
            low, high = evals.cluster_interval(right, labels, draws=300)
            covered[way] += low <= 0.7 <= high
    by_template, by_prompt = covered / trials
    assert 0.90 <= by_template <= 0.98
    assert by_prompt < 0.80


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clusters": ["a", "a"]}, "clusters has the one label 'a'"),
        ({"clusters": ["a"]}, "values has 2, clusters has 1 entries"),
        ({"clusters": [["a", "b"]]}, r"clusters has shape \(1, 2\)"),
        ({"values": []}, r"values has shape \(0,\)"),
        ({"values": [0.0, math.inf]}, r"values\[1\] is inf; leave out"),
        ({"level": 1.0}, r"level is 1.0; give a number in \(0, 1\)"),
        ({"level": math.nan}, "level is nan"),
        ({"draws": 0}, "draws is 0; give at least 1"),
        ({"seed": -1}, "seed is -1; give at least 0"),
    ],
)
def test_bad_input_is_named(changes, message):
    arguments = {"values": [0.0, 1.0], "clusters": ["a", "b"], **changes}
    with pytest.raises(ValueError, match=message):
        evals.cluster_interval(**arguments)
