"""The planted faults still fit the code: each applies, and every room has some."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent / "faults"))
planted: Any = importlib.import_module("planted")

ROOT = Path(__file__).parents[1]


def test_every_fault_applies_and_every_room_has_some():
    assert planted.problems(planted.FAULTS, ROOT) == []
    assert len(planted.FAULTS) >= 40


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"old": "no such text"}, "has its text 0 times"),
        ({"old": "jnp"}, "times"),
        ({"new": planted.FAULTS[0].old}, "it changes nothing"),
        ({"new": "("}, "never closed"),
        ({"file": "simplex_jax/dual/none.py"}, "No such file"),
        ({"tests": ("tests/none",)}, "tests/none is not there"),
    ],
)
def test_a_fault_that_no_longer_fits_is_named(changes, message):
    fault = replace(planted.FAULTS[0], **changes)
    found = planted.problems((fault, *planted.FAULTS[1:]), ROOT)
    assert any(message in line and fault.name in line for line in found)


def test_rooms_with_too_few_and_names_that_occur_twice_are_told():
    found = "\n".join(planted.problems(planted.FAULTS[:3] * 2, ROOT))
    assert "gguf: 0 faults" in found
    assert "2 of the name" in found
