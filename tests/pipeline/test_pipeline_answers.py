"""Answers are scored against the best one, confidences against the truth."""

import numpy as np
import pytest

from simplex_jax import specialists
from simplex_jax.pipeline._answers import judge


def test_confidences_are_judged_by_the_truth():
    name = "sentiment_analysis"
    examples = specialists.generate(name, 200, seed=0)
    best = [example.response for example in examples]
    figures = judge(name, examples, best)
    assert figures["accuracy"] == 1
    true = [
        specialists.verify(name, e.prompt, e.response).answer == e.metadata["truth"]
        for e in examples
    ]
    # The most probable answer is not always the true one.
    assert 0.5 < np.mean(true) < 1
    assert figures["calibration"]["accuracy"] == pytest.approx(np.mean(true))
