"""The examples and the notebook run, as a stranger would run them."""

import json
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("newton", "in 5 steps, CONVERGED"),
        ("belief_sensitivity", "posterior 0.6923"),
        ("implicit_curve", "closes after a length of 7.34"),
    ],
)
def test_an_example_runs(name, said, run_python):
    assert said in run_python(EXAMPLES / f"dual_{name}.py")


@pytest.mark.nightly
def test_the_notebook_runs_and_says_what_it_shows(run_python):
    pytest.importorskip("matplotlib")
    notebook = json.loads((EXAMPLES / "dual_numbers.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    source = "\n".join("".join(cell["source"]) for cell in cells)
    shown = [
        "".join(output["text"])
        for cell in cells
        for output in cell["outputs"]
        if output["output_type"] == "stream"
    ]
    found = run_python("-W", "ignore", "-c", source)
    # The last digits of rounding errors belong to the machine.
    assert found.splitlines()[:4] == "".join(shown).splitlines()[:4]
    assert len(found.splitlines()) == len("".join(shown).splitlines())
