"""The suite's ground rules: strict ranks, full matmul precision, typed arrays."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Eight host devices, so that code which places arrays is exercised everywhere.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)

from jaxtyping import install_import_hook

# Shapes and dtypes in annotations are checked at every call in the tests.
install_import_hook("simplex_jax", "beartype.beartype")

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")


@pytest.fixture(scope="session")
def smollm2_gguf():
    """Path of SmolLM2-135M-Instruct's GGUF file, fetched once into the cache."""
    from simplex_jax import models

    try:
        return models.fetch("smollm2-135m")
    except ConnectionError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"the weights cannot be fetched here: {error}")


@pytest.fixture(scope="session")
def smollm2(smollm2_gguf):
    """SmolLM2-135M-Instruct in float32, and its tokenizer."""
    from simplex_jax import models

    return models.load(smollm2_gguf)


@pytest.fixture(scope="session")
def tiny_llama(smollm2_gguf):
    """A small random Llama with SmolLM2's vocabulary, and its tokenizer."""
    from flax import nnx

    from simplex_jax import gguf, models
    from simplex_jax.text import Tokenizer

    with gguf.open(smollm2_gguf) as file:
        tokenizer = Tokenizer.from_gguf(file.metadata)
    config = models.DecoderConfig(
        model_type="llama",
        vocab_size=tokenizer.vocab_size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
    )
    model = models.Decoder(config, rngs=nnx.Rngs(0))
    # Weights of 0.02 would leave every logit near 0 and hide any mistake.
    model = jax.tree.map(lambda leaf: leaf * 5 if leaf.ndim > 1 else leaf, model)
    return model, tokenizer
