"""Small random models of every kind, in this library's and in transformers' hands."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tiny
from flax import nnx
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from simplex_jax.models import Decoder, DecoderConfig, RopeScaling, config_from_hf
from simplex_jax.text import Tokenizer

VOCAB = 320
CONTEXT = 128

_SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "rms_norm_eps": 1e-5,
}
_YARN = {
    "rope_type": "yarn",
    "factor": 3.3,
    "original_max_position_embeddings": 32,
    "rope_theta": 10000.0,
}


def _row(kind: str, rope: dict | None = None, **changes) -> dict[str, Any]:
    rope = rope or {"rope_type": "default", "rope_theta": 10000.0}
    return {"model_type": kind, **_SIZES, "rope_parameters": rope, **changes}


# What transformers is asked to build, and config.json then says. The vocabulary and
# the sizes are the same in all, so a row differs in what its name says.
ROWS: dict[str, dict[str, Any]] = {
    "llama": _row("llama", tie_word_embeddings=False),
    "llama-tied-every-head": _row(
        "llama", tie_word_embeddings=True, num_key_value_heads=4
    ),
    "llama-wide-heads": _row("llama", tie_word_embeddings=False, head_dim=32),
    "llama3-short": _row(
        "llama",
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
            "rope_theta": 10000.0,
        },
        tie_word_embeddings=True,
    ),
    "llama3": _row(
        "llama",
        {
            "rope_type": "llama3",
            "factor": 32.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
            "rope_theta": 500000.0,
        },
        tie_word_embeddings=True,
    ),
    "llama-linear": _row(
        "llama",
        {"rope_type": "linear", "factor": 3.3, "rope_theta": 12345.7},
        tie_word_embeddings=False,
    ),
    "llama-yarn": _row("llama", _YARN, tie_word_embeddings=False),
    "llama-yarn-attention": _row(
        "llama", {**_YARN, "attention_factor": 1.3}, tie_word_embeddings=False
    ),
    "qwen2-tied": _row("qwen2", tie_word_embeddings=True),
    "qwen2-yarn": _row("qwen2", _YARN, tie_word_embeddings=True),
    "qwen2-yarn-betas": _row(
        "qwen2", {**_YARN, "beta_fast": 16.0, "beta_slow": 2.0}, rms_norm_eps=1e-6
    ),
    "qwen3": _row("qwen3", tie_word_embeddings=False, head_dim=32),
    "qwen3-tied-yarn-attention": _row(
        "qwen3",
        {**_YARN, "attention_factor": 0.8},
        tie_word_embeddings=True,
        head_dim=32,
    ),
}

# llama.cpp reads no rotation counts for these architectures.
GGUF_ROWS = [name for name in ROWS if not name.endswith("-betas")]

TINY: dict[str, DecoderConfig] = {
    kind: tiny.config(
        kind, rope_scaling=RopeScaling("linear", 2.0) if kind == "qwen2" else None
    )
    for kind in tiny.KINDS
}

QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def write_tokenizer(folder: Path) -> None:
    """Write a small byte-level BPE tokenizer with Qwen2's split."""
    backend = Backend(models.BPE())
    split = pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])  # pyright: ignore[reportAttributeAccessIssue]
    backend.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    corpus = ["the cat sat on the mat and the dog sat on the cat"] * 5
    backend.train_from_iterator([*corpus, "größer naïve 日本語 привет 12 34"], trainer)
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|endoftext|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


make = tiny.decoder


def row_config(name: str) -> DecoderConfig:
    return config_from_hf(ROWS[name])


def transformers_model(name: str):
    """Return a random transformers model of a row, in evaluation mode."""
    import torch
    import transformers

    row = ROWS[name]
    config = transformers.AutoConfig.for_model(**row)
    model = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation="eager"
    ).eval()
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            draw = torch.randn(parameter.shape, generator=generator)
            if "norm" in key:
                draw = 1 + 0.3 * draw
            elif key.endswith(".bias"):
                draw = 0.5 * draw
            elif "embed_tokens" in key:
                draw = 0.4 * draw
            else:
                scale = 2.0 if "lm_head" in key else 1.0
                draw = draw * scale / parameter.shape[-1] ** 0.5
            parameter.copy_(draw)
    return model


def transformers_logits(model, tokens: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return float32 logits of right-padded rows."""
    import torch

    attention = np.arange(tokens.shape[1]) < lengths[:, None]
    with torch.no_grad():
        out = model(
            input_ids=torch.from_numpy(tokens.astype(np.int64)),
            attention_mask=torch.from_numpy(attention.astype(np.int64)),
        )
    return out.logits.float().numpy()


@jax.jit
def logits(model, tokens, segment_ids):
    return model(tokens, segment_ids=segment_ids)


def prompts(
    vocab: int = VOCAB, lengths: tuple[int, ...] = (40, 17, 1), seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return random tokens, lengths and segment ids of right-padded rows."""
    rng = np.random.default_rng(seed)
    sizes = np.array(lengths)
    real = np.arange(max(lengths)) < sizes[:, None]
    tokens = rng.integers(3, vocab, real.shape) * real
    return tokens.astype(np.int32), sizes, real.astype(np.int32)


def gap(a, b, where=None) -> float:
    """Return the largest absolute difference, where a (B, T) mask says so."""
    difference = np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64))
    return float(difference.max() if where is None else difference[where].max())


def parameters(model: Decoder) -> dict[str, np.ndarray]:
    """Return every parameter by its path."""
    return {
        ".".join(map(str, path)): np.asarray(variable[...])
        for path, variable in nnx.to_flat_state(nnx.state(model))
    }


def assert_same_parameters(left: Decoder, right: Decoder) -> None:
    """Require the same names, and bit for bit the same numbers."""
    a, b = parameters(left), parameters(right)
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype, name
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def small_tokenizer(tmp: Path, vocab_size: int = VOCAB) -> Tokenizer:
    write_tokenizer(tmp)
    return Tokenizer.from_hf(tmp, vocab_size=vocab_size)
