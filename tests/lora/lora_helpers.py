"""Small random decoders, adapters with every number drawn, and their torch twins."""

import jax
import jax.numpy as jnp
import numpy as np
import tiny
from flax import nnx

from simplex_jax import lora
from simplex_jax.lora._attach import place, survey
from simplex_jax.lora._match import make_plans
from simplex_jax.models import Decoder, DecoderConfig, config_to_hf, outside_tensors

KINDS = tiny.KINDS
VOCAB = tiny.VOCAB
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")


def decoder_config(kind: str, layers: int = 3, **changes) -> DecoderConfig:
    fields = {"num_hidden_layers": layers, "tie_word_embeddings": kind == "qwen3"}
    return tiny.config(kind, **(fields | changes))


def make(
    kind: str, dtype=jnp.float32, seed: int = 0, remat: str = "projections", **changes
) -> Decoder:
    """Return a decoder with no idle parameter and logits of a few units."""
    config = decoder_config(kind, **changes)
    return tiny.decoder(config, seed, param_dtype=dtype, remat=remat)


def make_square() -> Decoder:
    """Return a base whose kernels all have one shape, so that little compiles."""
    return make("llama", hidden_size=12, intermediate_size=12, num_attention_heads=2)


def layers_of(model) -> dict[str, lora.LoRALinear]:
    """Return the adapted layers by the last part of their path."""
    return {
        str(path[-1]): module
        for path, module in nnx.iter_modules(model)
        if isinstance(module, lora.LoRALinear)
    }


def adapted(
    base,
    config: lora.LoRAConfig,
    seed: int = 1,
    strength: float = 0.3,
    param_dtype=jnp.float32,
):
    """Attach adapters with every number drawn, within the real ranks.

    The adapters' product has ``strength`` times the spread of ``make``'s kernels.
    """
    rng = np.random.default_rng(seed)
    sites, others = survey(base)
    plans = make_plans(sites, others, config, strict=True)

    def values(site, plan):
        stack = () if site.depth is None else (site.depth,)
        ranks = np.array(plan.ranks).reshape(*stack, 1, 1)
        scales = np.array(plan.scales).reshape(*stack, 1, 1)
        column = np.arange(ranks.max())
        a = rng.standard_normal((*stack, site.in_features, ranks.max()))
        b = rng.standard_normal((*stack, ranks.max(), site.out_features))
        a *= (column < ranks) / site.in_features**0.5
        b *= (column[:, None] < ranks) * strength
        b /= np.where(ranks > 0, scales * ranks**0.5, 1)
        return jnp.array(a.astype(param_dtype)), jnp.array(b.astype(param_dtype))

    return place(base, sites, plans, config, values)


def tokens(batch: int = 2, length: int = 12, seed: int = 0) -> jax.Array:
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.integers(0, VOCAB, (batch, length)), jnp.int32)


@jax.jit
def logits(model, batch, key=None):
    return model(batch, key=key)


def gap(a, b) -> float:
    """Return the largest absolute difference."""
    return float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).max())


def numbers(model) -> dict[str, np.ndarray]:
    """Return every Variable's value by its path."""
    return {
        ".".join(map(str, path)): np.asarray(variable[...])
        for path, variable in nnx.to_flat_state(nnx.state(model))
    }


def assert_same(left, right) -> None:
    """Require the same module structure and bit for bit the same numbers."""
    assert nnx.graphdef(left) == nnx.graphdef(right)
    assert jax.tree.structure(nnx.state(left)) == jax.tree.structure(nnx.state(right))
    a, b = numbers(left), numbers(right)
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype, name
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def torch_twin(model: Decoder):
    """Return transformers' model with the same weights, in evaluation mode."""
    import torch
    import transformers

    raw = config_to_hf(model.config)
    raw.pop("architectures", None)
    config = transformers.AutoConfig.for_model(**raw)
    twin = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation="eager"
    ).eval()
    values = dict(nnx.to_flat_state(nnx.state(model)))
    state = {}
    for tensor in outside_tensors(model):
        value = np.asarray(values[tensor.path][...])
        value = value if tensor.layer is None else value[tensor.layer]
        value = value.T if tensor.transposed else value
        state[tensor.hf_name] = torch.from_numpy(np.array(value))
    missing, unexpected = twin.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}
    return twin


def torch_logits(model, batch) -> np.ndarray:
    import torch

    with torch.no_grad():
        return model(input_ids=torch.from_numpy(np.asarray(batch, np.int64))).logits
