"""verify finds a file that llama.cpp computes alike, and one that it does not."""

import dataclasses
import json

import numpy as np
import pytest

from simplex_jax import export, models
from simplex_jax.export import _verify
from simplex_jax.text import Tokenizer

pytest.importorskip("llama_cpp")


@pytest.fixture(scope="module")
def f32_file(tiny_llama, tmp_path_factory):
    path = tmp_path_factory.mktemp("verify") / "model.gguf"
    model, tokenizer = tiny_llama
    models.save_gguf(model, tokenizer, path, "f32")
    return path


def test_a_sound_file_is_verified(f32_file):
    result = export.verify(f32_file, greedy_tokens=8)
    assert result.passed, result.problems
    assert result.file_type == "ALL_F32"
    assert len(result.checks) == len(export.PROMPTS) + 1
    for check in result.checks:
        assert check.ids_equal
        assert check.max_logit_difference <= 1e-3
        assert check.greedy_tokens == 8
    read_back = json.loads(json.dumps(result.to_json()))
    assert read_back["passed"] is True
    assert read_back["checks"][0]["prompt"] == export.PROMPTS[0]


@pytest.mark.parametrize("file_type", ["f16", "bf16", "q8_0", "q4_0"])
def test_rounded_files_stay_within_their_bounds(tiny_llama, tmp_path, file_type):
    path = tmp_path / "model.gguf"
    model, tokenizer = tiny_llama
    models.save_gguf(model, tokenizer, path, file_type)
    result = export.verify(path, prompts=export.PROMPTS[:2], greedy_tokens=4)
    assert result.passed, result.problems


def test_unpermuted_rotary_rows_are_found(f32_file, monkeypatch):
    monkeypatch.setattr(
        "simplex_jax.models._gguf.uninterleave", lambda rows, heads: rows
    )
    result = export.verify(f32_file, prompts=export.PROMPTS[2:4], greedy_tokens=4)
    assert not result.passed
    assert any("logits differ" in problem for problem in result.problems)


def test_a_tokenizer_that_differs_is_found(f32_file, monkeypatch):
    real = Tokenizer.from_gguf

    def other_split(metadata):
        return dataclasses.replace(real(metadata), pre="qwen2")

    monkeypatch.setattr(
        "simplex_jax.models._gguf.Tokenizer.from_gguf", staticmethod(other_split)
    )
    result = export.verify(f32_file, prompts=["one\n\ntwo"], greedy_tokens=2)
    assert any("token ids differ" in problem for problem in result.problems)


def _check(**changes) -> export.PromptCheck:
    equal = export.PromptCheck(
        prompt="x",
        tokens=1,
        ids_equal=True,
        max_logit_difference=0.0,
        mean_kl_nats=0.0,
        top1_agreement=1.0,
        greedy_tokens=8,
        first_difference=None,
        gap_at_difference=None,
        text="",
    )
    return dataclasses.replace(equal, **changes)


def test_nan_logits_are_a_problem():
    check = _check(max_logit_difference=float("nan"), mean_kl_nats=float("nan"))
    assert _verify._problems([check], 1e-3)
    assert _verify._problems([_check(), check], None)


def test_a_text_that_parts_at_a_clear_choice_is_a_problem():
    check = _check(first_difference=3, gap_at_difference=0.5)
    assert any(
        "part at step 3" in problem for problem in _verify._problems([check], 1e-3)
    )
    close = dataclasses.replace(check, gap_at_difference=1e-4)
    assert not _verify._problems([close], 1e-3)


def test_divergence_counts_over_all_positions():
    odd = _check(tokens=30, mean_kl_nats=0.15)
    assert not _verify._problems([odd, _check(tokens=30, mean_kl_nats=0.02)], None)
    (problem,) = _verify._problems([odd, _check(tokens=3, mean_kl_nats=0.02)], None)
    assert problem == "mean KL over all prompts is 0.138 > 0.1 nats"
    wrong = [_check(mean_kl_nats=kl) for kl in (0.3, 0.7, 1.4)]
    assert _verify._problems(wrong, None)


def test_divergence_is_measured_in_nats():
    p, q = np.array([[0.75, 0.25]]), np.array([[0.5, 0.5]])
    expected = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    assert _verify._kl(np.log(p) + 3, np.log(q) - 7) == pytest.approx([expected])


def test_arguments_are_checked(f32_file, tmp_path):
    with pytest.raises(ValueError, match="greedy_tokens is 0; give at least 1"):
        export.verify(f32_file, greedy_tokens=0)
    with pytest.raises(ValueError, match="does not load"):
        export.LlamaCpp(tmp_path / "absent.gguf")
    with (
        export.LlamaCpp(f32_file, context_tokens=8) as reference,
        pytest.raises(
            ValueError, match="9 tokens at position 0 do not fit context_tokens=8"
        ),
    ):
        reference.logits([1] * 9)
