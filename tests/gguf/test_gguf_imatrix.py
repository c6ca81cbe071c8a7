"""Importance matrices as files: ours, llama.cpp's, and damaged ones."""

from pathlib import Path

import gguf as gguf_py
import numpy as np
import pytest

from simplex_jax import gguf
from simplex_jax.gguf import GGMLType, GGUFError, MetadataValue, TensorSource

MEANS = {
    "blk.0.attn_q.weight": np.linspace(0, 3, 64, dtype=np.float32),
    "blk.0.ffn_down.weight": np.full(96, 0.25, np.float32),
}
MATRIX = gguf.ImportanceMatrix(MEANS, 1024, 512, ("calibration.txt",))


def save(path: Path, arrays: dict[str, np.ndarray], **changes: MetadataValue) -> Path:
    metadata: dict[str, MetadataValue] = {
        "general.type": "imatrix",
        "imatrix.chunk_count": np.uint32(2),
        "imatrix.chunk_size": np.uint32(512),
        "imatrix.datasets": ["calibration.txt"],
    }
    sources = [
        TensorSource(name, array.shape, GGMLType.F32, lambda array=array: array)
        for name, array in arrays.items()
    ]
    gguf.write(path, metadata | changes, sources)
    return path


def parts(sums: np.ndarray, count: float) -> dict[str, np.ndarray]:
    return {"w.in_sum2": sums, "w.counts": np.array([[count]], np.float32)}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "im.gguf"
    gguf.write_imatrix(path, MATRIX)
    found = gguf.read_imatrix(path)
    assert (found.tokens, found.chunk_tokens, found.chunks) == (1024, 512, 2)
    assert found.datasets == ("calibration.txt",)
    assert found.path == str(path)
    assert set(found.mean_squares) == set(MEANS)
    for name, mean in MEANS.items():
        # A power of two tokens: sums and means are exact.
        np.testing.assert_array_equal(found.mean_squares[name], mean)


def test_the_file_is_as_llama_cpp_describes_it(tmp_path: Path) -> None:
    path = tmp_path / "im.gguf"
    gguf.write_imatrix(path, MATRIX)
    file = gguf_py.GGUFReader(path)
    fields = {key: field.contents() for key, field in file.fields.items()}
    assert fields["general.type"] == "imatrix"
    assert fields["imatrix.chunk_count"] == 2
    assert fields["imatrix.chunk_size"] == 512
    assert fields["imatrix.datasets"] == ["calibration.txt"]
    tensors = {tensor.name: tensor for tensor in file.tensors}
    assert len(tensors) == 2 * len(MEANS)
    for name, mean in MEANS.items():
        sums = tensors[f"{name}.in_sum2"]
        assert sums.tensor_type == GGMLType.F32
        np.testing.assert_array_equal(sums.data.reshape(-1), mean * 1024)
        assert tensors[f"{name}.counts"].data.reshape(-1).tolist() == [1024]


def test_a_tensor_without_tokens_counts_every_column_alike(tmp_path: Path) -> None:
    path = save(tmp_path / "im.gguf", parts(np.zeros((1, 8), np.float32), 0))
    found = gguf.read_imatrix(path)
    np.testing.assert_array_equal(found.mean_squares["w"], np.ones(8))


@pytest.mark.parametrize(
    ("arrays", "changes", "message"),
    [
        (parts(np.ones(4, np.float32), 1), {"general.type": "model"}, "'model'"),
        ({"w.weight": np.ones(4, np.float32)}, {}, "no tensor's name ends in"),
        ({"w.in_sum2": np.ones(4, np.float32)}, {}, "w.counts is missing"),
        (parts(np.full(4, -1, np.float32), 1), {}, "w.in_sum2 has numbers below 0"),
        (parts(np.full(4, np.inf, np.float32), 1), {}, "w.in_sum2 has numbers"),
        (parts(np.ones(4, np.float32), np.nan), {}, "w.counts is nan"),
        (parts(np.ones(4, np.float32), -2), {}, "w.counts is -2"),
        (
            {
                "w.in_sum2": np.ones((2, 4), np.float32),
                "w.counts": np.ones((2, 1), np.float32),
            },
            {},
            "a stack of 2 experts",
        ),
        (
            parts(np.ones(4, np.float32), 1),
            {"imatrix.chunk_size": np.uint32(0)},
            "imatrix.chunk_size is",
        ),
        (
            parts(np.ones(4, np.float32), 1),
            {"imatrix.chunk_size": "many"},
            "imatrix.chunk_size is 'many'",
        ),
    ],
)
def test_what_cannot_be_used_is_named(
    arrays: dict[str, np.ndarray],
    changes: dict[str, MetadataValue],
    message: str,
    tmp_path: Path,
) -> None:
    path = save(tmp_path / "im.gguf", arrays, **changes)
    with pytest.raises(GGUFError, match=message) as caught:
        gguf.read_imatrix(path)
    assert str(path) in str(caught.value)


def test_the_older_form_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "imatrix.dat"
    path.write_bytes(b"\x02\0\0\0\x05\0\0\0w.wei")
    with pytest.raises(GGUFError, match=r"imatrix\.dat"):
        gguf.read_imatrix(path)


def test_an_empty_matrix_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mean_squares is empty"):
        gguf.write_imatrix(tmp_path / "im.gguf", gguf.ImportanceMatrix({}, 0, 512))
    assert not list(tmp_path.iterdir())
