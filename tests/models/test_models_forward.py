"""The decoder computes what transformers computes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models_helpers import (
    ROWS,
    gap,
    logits,
    prompts,
    transformers_logits,
    transformers_model,
    write_tokenizer,
)

from simplex_jax import models

# float32 through two layers; logits have a standard deviation of a few units.
TOLERANCE = 2e-4


@pytest.mark.parametrize("name", ROWS)
def test_logits_equal_those_of_transformers(name, made_by_transformers):
    torch_model, folder = made_by_transformers(name)
    model, _ = models.load(folder)
    tokens, lengths, segments = prompts()
    ours = logits(model, tokens, segments)
    theirs = transformers_logits(torch_model, tokens, lengths)
    real = segments == 1
    assert 0.5 < theirs[real].std() < 10
    assert gap(ours, theirs, real) <= TOLERANCE


@pytest.mark.parametrize("name", ["llama3-short", "qwen2-yarn-betas", "qwen3"])
@pytest.mark.parametrize("lengths", [(1,), (2, 2), (100, 61, 33, 7)])
def test_logits_equal_those_of_transformers_for_every_batch(
    name, lengths, made_by_transformers
):
    torch_model, folder = made_by_transformers(name)
    model, _ = models.load_hf(folder)
    tokens, sizes, segments = prompts(lengths=lengths, seed=len(lengths))
    ours = logits(model, tokens, segments)
    theirs = transformers_logits(torch_model, tokens, sizes)
    assert gap(ours, theirs, segments == 1) <= TOLERANCE


@pytest.mark.parametrize("name", ["qwen2-tied", "qwen3"])
def test_bfloat16_model_stays_close_to_float32(name, made_by_transformers):
    _, folder = made_by_transformers(name)
    exact, _ = models.load(folder)
    rounded, _ = models.load(folder, dtype=jnp.bfloat16)
    tokens, _, segments = prompts()
    hidden = jax.eval_shape(rounded.hidden, jnp.asarray(tokens))
    assert hidden.dtype == jnp.bfloat16
    ours = logits(rounded, tokens, segments)
    assert ours.dtype == jnp.float32
    difference = np.asarray(ours - logits(exact, tokens, segments))[segments == 1]
    # Eight bits of mantissa: a root mean square of 2 percent of the logits' spread.
    spread = np.asarray(logits(exact, tokens, segments))[segments == 1].std()
    assert 0 < np.sqrt(np.mean(difference**2)) < 0.03 * spread


def test_weights_stored_in_bfloat16_load_exactly(made_by_transformers, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    transformers_model("qwen2-tied").to(torch.bfloat16).save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    model, _ = models.load_hf(tmp_path)
    # Read back in float32: .to(bfloat16) has rounded the rotary frequencies too.
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32
    )
    tokens, lengths, segments = prompts()
    expected = transformers_logits(theirs, tokens, lengths)
    ours = logits(model, tokens, segments)
    assert gap(ours, expected, segments == 1) <= TOLERANCE
