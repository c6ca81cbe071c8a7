"""Every public name: listed, documented, its examples run."""

import doctest
import importlib
import inspect
from pathlib import Path

import jax
import pytest
from test_schedules_curves import SCHEDULES

from simplex_jax import schedules

# What trains, and the row of the curves' tests that each has.
ROWS = {
    "LearnableLR": "lr",
    "PiecewiseLR": "piecewise_lr",
    "LearnableDistillation": "distillation",
    "LearnableSparsity": "sparsity",
    "LearnableBits": "bits",
    "LearnableCurriculum": "curriculum",
    "LearnedSchedules": "bundle",
}
FUNCTIONS = {
    "held_out_loss",
    "learn_learning_rate",
    "load",
    "meta_train",
    "refuse_rough",
    "save",
    "take_updates",
    "unrolled_loss",
}
TYPES = {"Distillation", "MetaTrained", "ScheduleValues"}
PUBLIC = FUNCTIONS | TYPES | ROWS.keys()


def test_every_public_name_is_in_a_list():
    # The import hook that checks types in the tests leaves its own name behind.
    public = {n for n in vars(schedules) if not n.startswith("_")} - {"jaxtyping"}
    assert public == PUBLIC


def test_every_training_schedule_is_a_row():
    assert set(ROWS.values()) == SCHEDULES.keys()
    for name, row in ROWS.items():
        assert isinstance(SCHEDULES[row](), getattr(schedules, name))


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_is_documented(name):
    found = getattr(schedules, name)
    assert found.__doc__
    if inspect.isfunction(found):
        assert "Args:" in found.__doc__
        silent = {"save", "refuse_rough"}
        assert name in silent or "Returns:" in found.__doc__


MODULES = sorted(p.stem for p in Path(schedules.__file__).parent.glob("_[a-z]*.py"))


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings(module):
    found = importlib.import_module(f"simplex_jax.schedules.{module}")
    result = doctest.testmod(found, extraglobs={"schedules": schedules, "jax": jax})
    assert result.failed == 0
