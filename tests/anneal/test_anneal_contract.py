"""Every public name: listed, documented, its examples run."""

import doctest
import importlib
import inspect
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from test_anneal_schedules import SCHEDULES

from simplex_jax import anneal

# What makes schedules, and the row of the schedules' tests that each has.
MAKES_SCHEDULES = {
    "exponential": "exponential",
    "linear": "linear",
    "logarithmic": "logarithmic",
    "cosine": "cosine",
    "LearnableSchedule": "learnable",
    "EpistemicSchedule": "epistemic",
}
ESTIMATORS = {"pathwise", "score_function", "es", "pes"}
FUNCTIONS = {
    "anneal",
    "anneal_problem",
    "barker",
    "decided_process",
    "learn",
    "learn_schedule",
    "load",
    "mean_loss",
    "metropolis",
    "plot_learning",
    "plot_run",
    "plot_schedule",
    "read_schedule_file",
    "relaxed_process",
    "save",
    "search",
    "search_schedule",
    "self_learn_anneal",
    "smooth_floor",
    "temper",
    "tempering_process",
    "write_schedule_file",
    *ESTIMATORS,
}
TYPES = {
    "AcceptanceRule",
    "AnnealConfig",
    "Choice",
    "Dissent",
    "Emission",
    "Estimate",
    "FixedSchedule",
    "Found",
    "History",
    "Integer",
    "Ladder",
    "Learned",
    "MetaLoss",
    "Monitors",
    "Problem",
    "Process",
    "Result",
    "Schedule",
    "Searched",
    "SelfLearned",
    "Status",
    "Tempered",
    "Trace",
    "Trial",
    "Uniform",
}
PUBLIC = FUNCTIONS | TYPES | MAKES_SCHEDULES.keys()


def test_every_public_name_is_in_a_list():
    # The import hook that checks types in the tests leaves its own name behind.
    public = {n for n in vars(anneal) if not n.startswith("_")} - {"jaxtyping"}
    assert public == PUBLIC


def test_every_schedule_is_a_row():
    assert set(MAKES_SCHEDULES.values()) <= SCHEDULES.keys()
    for make in SCHEDULES.values():
        schedule = make()
        assert isinstance(schedule, anneal.Schedule)
        for leaf in jax.tree.leaves(schedule):
            assert jnp.issubdtype(leaf.dtype, jnp.floating)


@pytest.mark.parametrize("name", sorted(PUBLIC - {"AcceptanceRule"}))
def test_every_public_name_is_documented(name):
    found = getattr(anneal, name)
    assert found.__doc__
    if inspect.isfunction(found):
        assert "Args:" in found.__doc__
        silent = {"save", "write_schedule_file"}
        assert name in silent or "Returns:" in found.__doc__


MODULES = sorted(p.stem for p in Path(anneal.__file__).parent.glob("_[a-z]*.py"))


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings(module):
    found = importlib.import_module(f"simplex_jax.anneal.{module}")
    result = doctest.testmod(found, extraglobs={"anneal": anneal, "jax": jax})
    assert result.failed == 0
