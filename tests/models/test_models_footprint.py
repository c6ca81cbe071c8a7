"""What loading costs: modules at import, memory at load."""

import json
import subprocess
import sys

import pytest


def run(code: str, *arguments: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


HEAVY = ["torch", "transformers", "orbax", "matplotlib", "peft"]


@pytest.mark.parametrize(
    ("statement", "barred"),
    [
        ("import simplex_jax", [*HEAVY, "flax", "jax", "tokenizers"]),
        ("from simplex_jax import models", [*HEAVY, "llama_cpp", "huggingface_hub"]),
    ],
)
def test_import_loads_nothing_heavy(statement, barred):
    code = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    loaded = set(run(code))
    assert "simplex_jax" in loaded
    assert not loaded.intersection(barred)


PEAK = """
import json, resource, sys
import jax
from simplex_jax import models

# What XLA's runtime takes once is not the model's.
jax.numpy.array(jax.numpy.zeros(4), copy=True).block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
model, tokenizer = models.load(sys.argv[1])
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
sizes = [leaf.nbytes for leaf in jax.tree.leaves(model)]
print(json.dumps({"grown": after - before, "model": sum(sizes), "largest": max(sizes)}))
"""
# The tokenizer (49 152 tokens and their merges, in Python and in Rust), pages of the
# mapped file that the kernel counts, and decoded float32 of one tensor.
SLACK = 250e6


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no getrusage")
def test_loading_peaks_at_the_model_and_one_variable(smollm2_gguf):
    found = run(PEAK, str(smollm2_gguf))
    assert found["model"] > 500e6
    assert found["grown"] <= found["model"] + found["largest"] + SLACK
