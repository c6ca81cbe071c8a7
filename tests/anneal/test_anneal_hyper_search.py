"""Hyper-parameter search: values within the space, progress, failures, resuming."""

import math

import jax
import numpy as np
import pytest
from draws import draws
from hypothesis import given
from hypothesis import strategies as st

from simplex_jax import anneal

SPACE = {
    "rate": anneal.Uniform(1e-5, 1.0, log=True),
    "dropout": anneal.Uniform(0.0, 0.5),
    "rank": anneal.Integer(1, 64, log=True),
    "layers": anneal.Integer(1, 3),
    "rule": anneal.Choice(("sgd", "adam", "lion")),
}


def bowl(params):
    return (
        math.log10(params["rate"] / 3e-3) ** 2
        + 10 * (params["dropout"] - 0.1) ** 2
        + math.log2(params["rank"] / 8) ** 2 / 4
        + abs(params["layers"] - 2)
        + (params["rule"] != "adam")
    )


@draws(10)
@given(seed=st.integers(0, 2**31), trials=st.integers(1, 60))
def test_every_trial_is_within_the_space(seed, trials):
    found = anneal.search(bowl, SPACE, key=jax.random.key(seed), trials=trials)
    assert len(found.trials) == trials
    for trial in found.trials:
        params = trial.params
        assert 1e-5 <= params["rate"] <= 1 and 0 <= params["dropout"] <= 0.5
        assert params["rank"] in range(1, 65) and params["layers"] in (1, 2, 3)
        assert params["rule"] in ("sgd", "adam", "lion")
        assert trial.value == bowl(params)
    assert found.value == min(t.value for t in found.trials) == bowl(found.params)


def test_it_beats_random_draws_of_as_many_trials():
    draws = np.random.default_rng(0)

    def at_random():
        params = {
            "rate": 10 ** draws.uniform(-5, 0),
            "dropout": draws.uniform(0, 0.5),
            "rank": int(round(2 ** draws.uniform(0, 6))),
            "layers": int(draws.integers(1, 4)),
            "rule": draws.choice(["sgd", "adam", "lion"]),
        }
        return bowl(params)

    found = [
        anneal.search(bowl, SPACE, key=jax.random.key(i), trials=60).value
        for i in range(20)
    ]
    drawn = [min(at_random() for _ in range(60)) for _ in range(20)]
    assert np.mean(found) < 0.7 * np.mean(drawn)


def test_a_search_that_was_stopped_goes_on_as_if_it_had_not_been():
    key, saved, calls = jax.random.key(3), [], []

    def counted(params):
        calls.append(params)
        return bowl(params)

    whole = anneal.search(bowl, SPACE, key=key, trials=40, report=saved.append)
    assert saved == list(whole.trials)
    again = anneal.search(counted, SPACE, key=key, trials=40, known=saved[:25])
    assert again == whole and len(calls) == 15


def test_failed_trials_are_kept_and_never_the_best():
    def fragile(params):
        return math.nan if params["rate"] > 1e-2 else bowl(params)

    found = anneal.search(fragile, SPACE, key=jax.random.key(0), trials=40)
    failed = [t for t in found.trials if math.isnan(t.value)]
    assert failed and not any(t.accepted for t in failed)
    assert math.isfinite(found.value)


def test_a_small_space_is_tried_whole():
    space = {"n": anneal.Integer(1, 6), "c": anneal.Choice("ab")}
    found = anneal.search(
        lambda p: abs(p["n"] - 4) + (p["c"] == "a"),
        space,
        key=jax.random.key(0),
        trials=12,
    )
    assert found.params == {"n": 4, "c": "b"} and found.value == 0
    assert len({tuple(t.params.items()) for t in found.trials}) == 12


@pytest.mark.parametrize(
    ("space", "named"),
    [
        ({}, "space is empty"),
        ({"x": anneal.Uniform(1.0, 1.0)}, r"space\['x'\] reaches from 1.0 to 1.0"),
        ({"x": anneal.Uniform(0.0, 1.0, log=True)}, "low end above 0"),
        ({"x": anneal.Uniform(0.0, math.inf)}, "reaches from 0.0 to inf"),
        ({"x": anneal.Choice(("one",))}, "give at least 2"),
    ],
)
def test_bad_spaces_are_named(space, named):
    with pytest.raises(ValueError, match=named):
        anneal.search(bowl, space, key=jax.random.key(0), trials=5)


def test_no_finite_value_is_an_error():
    with pytest.raises(ValueError, match="no finite value in 3 trials"):
        anneal.search(lambda p: math.nan, SPACE, key=jax.random.key(0), trials=3)
    with pytest.raises(ValueError, match="trials is 0"):
        anneal.search(bowl, SPACE, key=jax.random.key(0), trials=0)
