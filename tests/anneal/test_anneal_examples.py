"""The examples and the notebook run, as a stranger would run them."""

import json
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def mean(line):
    return float(line.split(" +- ")[0].split()[-1])


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("name", "pictures"),
    [
        ("rastrigin", {"anneal_rastrigin.png"}),
        pytest.param(
            "tsp",
            {"anneal_tsp_run.png", "anneal_tsp_learning.png", "anneal_tsp_tour.png"},
        ),
    ],
)
def test_an_example_learns_and_draws(name, pictures, tmp_path, run_python):
    pytest.importorskip("matplotlib")
    lines = run_python(EXAMPLES / f"anneal_{name}.py").splitlines()
    assert mean(lines[-1]) < mean(lines[0])
    assert {path.name for path in tmp_path.iterdir()} == pictures


@pytest.mark.nightly
def test_the_notebook_runs_and_says_what_it_shows(run_python):
    pytest.importorskip("matplotlib")
    pytest.importorskip("IPython")
    notebook = json.loads((EXAMPLES / "annealing.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    source = "\n".join("".join(cell["source"]) for cell in cells)
    shown = [
        "".join(output["text"])
        for cell in cells
        for output in cell["outputs"]
        if output["output_type"] == "stream"
    ]
    found = run_python("-W", "ignore", "-c", source)
    # The energies belong to the machine, the sentences do not.
    assert found.splitlines()[:-1] == "".join(shown).splitlines()[:-1]
    assert "learned is better than the start: True" in found
    assert sum(len(cell["outputs"]) for cell in cells) == len(cells) + 1
