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
