"""Types by name and shape, and the summary of a file."""

import json
from pathlib import Path

import gguf as gguf_py
import numpy as np
import pytest

from simplex_jax import gguf
from simplex_jax.gguf import GGMLType, TensorSource

MATRIX = (64, 96)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        # f32, f16, bf16, q8_0, q4_0
        ("blk.0.attn_q.weight", MATRIX, "F32 F16 BF16 Q8_0 Q4_0"),
        ("blk.0.attn_q.weight", (64, 100), "F32 F16 BF16 F16 F16"),
        ("blk.0.attn_q.bias", (64,), "F32 F32 F32 F32 F32"),
        ("blk.0.attn_norm.weight", (64,), "F32 F32 F32 F32 F32"),
        ("blk.0.attn_q_norm.weight", (2, 64), "F32 F32 F32 F32 F32"),
        ("blk.0.ffn_gate_inp.weight", MATRIX, "F32 F32 F32 F32 F32"),
        ("blk.0.ffn_gate.weight", MATRIX, "F32 F16 BF16 Q8_0 Q4_0"),
        ("output_norm.weight", (64,), "F32 F32 F32 F32 F32"),
        ("rope_freqs.weight", (32,), "F32 F32 F32 F32 F32"),
    ],
)
@pytest.mark.parametrize("tied", [False, True])
def test_types(name: str, shape: tuple[int, ...], expected: str, tied: bool) -> None:
    chosen = [gguf.tensor_type(name, shape, f, tied=tied) for f in gguf.FILE_TYPES]
    assert [type.name for type in chosen] == expected.split()


@pytest.mark.parametrize(
    ("name", "tied", "expected"),
    [
        ("output.weight", False, "Q8_0"),
        ("token_embd.weight", False, "Q4_0"),
        ("token_embd.weight", True, "Q8_0"),
    ],
)
def test_the_logit_matrix_of_a_q4_0_file(name: str, tied: bool, expected: str) -> None:
    assert gguf.tensor_type(name, MATRIX, "q4_0", tied=tied).name == expected
    assert gguf.tensor_type(name, (64, 100), "q4_0", tied=tied).name == "F16"


def test_unknown_file_type_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'q5'.*f32, f16, bf16, q8_0, q4_0"):
        gguf.tensor_type("a.weight", MATRIX, "q5", tied=False)


def test_file_types_and_sizes_are_llama_cpps() -> None:
    assert {name: int(value) for name, value in gguf.FILE_TYPES.items()} == {
        "f32": 0,
        "f16": 1,
        "bf16": 32,
        "q8_0": 7,
        "q4_0": 2,
    }
    assert gguf.block_size(GGMLType.Q8_0) == (32, 34)
    assert gguf.block_size(GGMLType.Q4_0) == (32, 18)
    assert gguf.GGMLType is gguf_py.GGMLQuantizationType
    assert gguf.FileType is gguf_py.LlamaFileType


def test_summary(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    array = np.zeros((2, 32), np.float32)
    gguf.write(
        path,
        {
            "general.architecture": "llama",
            "tokens": ["a", "b", "c", "d", "e"],
            "few": np.arange(2, dtype=np.int32),
            "n": np.uint32(3),
            "x": np.float32(0.5),
            "yes": True,
        },
        [
            TensorSource("a.weight", (2, 32), GGMLType.Q8_0, lambda: array),
            TensorSource("b.weight", (2, 32), GGMLType.Q8_0, lambda: array),
            TensorSource("c.weight", (2, 32), GGMLType.F32, lambda: array),
        ],
    )
    with gguf.open(path) as file:
        result = gguf.summary(file)
    assert json.loads(json.dumps(result)) == result
    assert result["version"] == 3
    assert result["alignment"] == 32
    assert result["size_bytes"] == path.stat().st_size
    assert result["parameters"] == 192
    assert result["bits_per_weight"] == 8 * (2 * 68 + 256) / 192
    assert result["types"] == {"Q8_0": 2, "F32": 1}
    assert result["tensors"][2] == {
        "name": "c.weight",
        "shape": [2, 32],
        "type": "F32",
        "nbytes": 256,
    }
    assert result["metadata"] == {
        "general.architecture": "llama",
        "tokens": {"count": 5, "first": ["a", "b", "c", "d"]},
        "few": [0, 1],
        "n": 3,
        "x": 0.5,
        "yes": True,
    }


def test_summary_of_nothing_has_no_bits_per_weight(tmp_path: Path) -> None:
    gguf.write(tmp_path / "model.gguf", {}, [])
    with gguf.open(tmp_path / "model.gguf") as file:
        assert "bits_per_weight" not in gguf.summary(file)
