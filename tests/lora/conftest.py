"""Load the decoder before its annotations are executed as tests."""

import warnings

with warnings.catch_warnings():
    # nnx.State is a typing.Hashable mapping, which beartype calls deprecated.
    warnings.filterwarnings("ignore", ".*typing.Hashable deprecated by PEP 585")
    import simplex_jax.lora
    import simplex_jax.models  # noqa: F401
