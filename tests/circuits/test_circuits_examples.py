"""The examples and the notebook run, as a stranger would run them."""

import json
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


pytestmark = pytest.mark.nightly


def test_the_adder_is_printed_as_formulas(run_python):
    out = run_python(EXAMPLES / "neural_adder.py")
    assert out.count("hard 100%") == 2
    # The lowest bit of the sum has one formula, up to the order of its inputs.
    assert "y0 = (x1 xor x3)" in out


def test_monk(run_python):
    out = run_python(EXAMPLES / "neural_monk.py")
    found = [float(line.split("hard ")[1].split("%")[0]) for line in out.splitlines()]
    assert len(found) == 3
    # Always saying the commoner answer is right in 50, 67 and 53 %.
    assert found[0] == 100
    assert min(found) > 85


def test_digits(tmp_path, run_python):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    out = run_python(EXAMPLES / "neural_digits.py", "digits.png")
    line = next(line for line in out.splitlines() if line.startswith("360 new digits"))
    hard, exported = (part.split()[-1] for part in line.split(", ")[1:])
    assert hard == exported
    assert float(hard.rstrip("%")) > 90
    assert (tmp_path / "digits.png").stat().st_size > 1000
    assert "classify(const uint8_t *x" in (tmp_path / "digits.c").read_text()


def test_the_notebook_runs_and_says_what_it_shows(run_python):
    pytest.importorskip("matplotlib")
    notebook = json.loads((EXAMPLES / "hardening_gates.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    source = "\n".join("".join(cell["source"]) for cell in cells)
    outputs = [output for cell in cells for output in cell["outputs"]]
    shown = "".join(
        "".join(output["text"])
        for output in outputs
        if output["output_type"] == "stream"
    ).splitlines()
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 3
    found = run_python("-W", "ignore", "-c", source).splitlines()
    # Corners, accuracies and the pruned formula; what it was pruned from may differ.
    assert found[:5] == shown[:5]
    assert found[-1] == shown[-1] == "pruned: y0 = (x0 xor x1)"
