"""Every public name: listed, documented, its examples run."""

import doctest
import importlib
import inspect
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from test_anneal_schedules import SCHEDULES
from test_anneal_training_schedules import SCHEDULES as TRAINING

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
# What trains, and the row of the training schedules' tests that each has.
TRAINING_SCHEDULES = {
    "LearnableLR": "lr",
    "PiecewiseLR": "piecewise_lr",
    "LearnableDistillation": "distillation",
    "LearnableSparsity": "sparsity",
    "LearnableBits": "bits",
    "LearnableCurriculum": "curriculum",
    "LearnedSchedules": "bundle",
}
ESTIMATORS = {"pathwise", "score_function", "es", "pes"}
FUNCTIONS = {
    "anneal",
    "anneal_problem",
    "barker",
    "decided_process",
    "held_out_loss",
    "learn",
    "learn_learning_rate",
    "learn_schedule",
    "load",
    "mean_loss",
    "meta_train",
    "metropolis",
    "plot_learning",
    "plot_run",
    "plot_schedule",
    "refuse_rough",
    "relaxed_process",
    "save",
    "search",
    "search_schedule",
    "self_learn_anneal",
    "take_updates",
    "temper",
    "tempering_process",
    "unrolled_loss",
    *ESTIMATORS,
}
TYPES = {
    "AcceptanceRule",
    "AnnealConfig",
    "Choice",
    "Dissent",
    "Distillation",
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
    "MetaTrained",
    "Problem",
    "Process",
    "Result",
    "Schedule",
    "ScheduleValues",
    "Searched",
    "SelfLearned",
    "Status",
    "Tempered",
    "Trace",
    "Trial",
    "Uniform",
}
PUBLIC = FUNCTIONS | TYPES | MAKES_SCHEDULES.keys() | TRAINING_SCHEDULES.keys()


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


def test_every_training_schedule_is_a_row():
    assert set(TRAINING_SCHEDULES.values()) == TRAINING.keys()
    for name, row in TRAINING_SCHEDULES.items():
        assert isinstance(TRAINING[row](), getattr(anneal, name))


@pytest.mark.parametrize("name", sorted(PUBLIC - {"AcceptanceRule"}))
def test_every_public_name_is_documented(name):
    found = getattr(anneal, name)
    assert found.__doc__
    if inspect.isfunction(found):
        assert "Args:" in found.__doc__
        silent = {"save", "refuse_rough"}
        assert name in silent or "Returns:" in found.__doc__


MODULES = sorted(p.stem for p in Path(anneal.__file__).parent.glob("_[a-z]*.py"))


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings(module):
    found = importlib.import_module(f"simplex_jax.anneal.{module}")
    result = doctest.testmod(found, extraglobs={"anneal": anneal, "jax": jax})
    assert result.failed == 0
