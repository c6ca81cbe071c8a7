"""What is written is what is read, and what cannot be written is named."""

import inspect
import json
import struct
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from draws import draws
from gguf_helpers import NUMBER_DTYPES, same, source
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from simplex_jax import gguf
from simplex_jax.gguf import GGMLType, MetadataValue, TensorSource

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = texts.filter(lambda name: name and "\0" not in name and len(name) < 16)


@st.composite
def arrays(draw: st.DrawFn, min_size: int = 1) -> np.ndarray:
    dtype = draw(st.sampled_from([*NUMBER_DTYPES, np.dtype(bool)]))
    shape = draw(st.integers(min_size, 5))
    # Any bytes are a number, NaN with a payload included.
    if dtype.kind == "b":
        return draw(hnp.arrays(dtype, shape))
    size = shape * dtype.itemsize
    return np.frombuffer(draw(st.binary(min_size=size, max_size=size)), dtype)


values = st.one_of(
    texts,
    st.booleans(),
    arrays().filter(lambda array: array.dtype.kind != "b").map(lambda array: array[0]),
    st.lists(texts, min_size=1, max_size=5),
    arrays(),
)


@st.composite
def tensor_arrays(draw: st.DrawFn) -> np.ndarray:
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    return draw(hnp.arrays(np.float32, shape))


@draws(150)
@given(
    metadata=st.dictionaries(
        names.filter(lambda name: name != "general.alignment"), values, max_size=6
    ),
    tensors=st.dictionaries(names, tensor_arrays(), max_size=4),
    alignment=st.sampled_from([None, 1, 8, 64, 1024]),
)
def test_write_then_read_is_the_identity(
    tmp_path_factory: pytest.TempPathFactory,
    metadata: dict[str, MetadataValue],
    tensors: dict[str, np.ndarray],
    alignment: int | None,
) -> None:
    path = tmp_path_factory.getbasetemp() / "identity.gguf"
    if alignment is not None:
        metadata["general.alignment"] = np.uint32(alignment)
    gguf.write(path, metadata, [source(*item) for item in tensors.items()])
    with gguf.open(path) as file:
        assert file.version == 3
        assert file.alignment == (alignment or 32)
        assert list(file.metadata) == list(metadata)
        assert all(same(metadata[key], file.metadata[key]) for key in metadata)
        assert list(file.tensors) == list(tensors)
        for name, array in tensors.items():
            assert file.tensors[name].offset % file.alignment == 0
            assert file.tensors[name].dequantize().tobytes() == array.tobytes()
        assert file.size_bytes == path.stat().st_size
        assert file.size_bytes % file.alignment == 0
        json.dumps(gguf.summary(file))

        # Reading and writing back changes no byte.
        again = path.with_suffix(".again")
        gguf.write(
            again,
            file.metadata,
            [source(name, t.dequantize()) for name, t in file.tensors.items()],
        )
        assert again.read_bytes() == path.read_bytes()


def test_bytes_of_a_small_file(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    metadata: dict[str, MetadataValue] = {
        "n": np.uint32(7),
        "general.architecture": "llama",
    }
    gguf.write(
        path, metadata, [source("w", np.arange(6, dtype=np.float32).reshape(2, 3))]
    )
    header = (
        b"GGUF"
        + struct.pack("<IQQ", 3, 1, 2)
        + struct.pack("<Q20siQ5s", 20, b"general.architecture", 8, 5, b"llama")
        + struct.pack("<Q1siI", 1, b"n", 4, 7)
        + struct.pack("<Q1sIQQiQ", 1, b"w", 2, 3, 2, 0, 0)
    )
    assert path.read_bytes() == (
        header + bytes(-len(header) % 32) + struct.pack("<6f", *range(6)) + bytes(8)
    )


# Users have no run-time check of types, which the test suite may turn on.
unchecked_write = inspect.unwrap(gguf.write)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (7, "np.uint32"),
        (0.5, "np.float32"),
        (None, "NoneType"),
        ({}, "dict"),
        (np.float16(1), "float16"),
        (np.complex64(1), "complex64"),
        ([], "empty"),
        ([1, 2], "np.array"),
        (np.array([], np.int32), "shape \\(0,\\)"),
        (np.zeros((2, 2), np.int32), "shape \\(2, 2\\)"),
        (np.array(1.0), "shape \\(\\)"),
        (np.array(["a"]), "list for texts"),
        ("\ud800", "surrogates"),
        (["ok", "\ud800"], "surrogates"),
    ],
)
def test_refused_values_name_the_key(
    tmp_path: Path, value: MetadataValue, message: str
) -> None:
    with pytest.raises(ValueError, match=f"(?s)'some.key'.*{message}"):
        unchecked_write(tmp_path / "model.gguf", {"some.key": value}, [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"": "x"}, "empty"),
        ({"k" * 65536: "x"}, "65536"),
        ({"a\0": "x"}, "NUL"),
        ({"general.alignment": np.uint32(24)}, "24.*power of two"),
        ({"general.alignment": np.int64(32)}, "uint32"),
    ],
)
def test_refused_keys(
    tmp_path: Path, metadata: dict[str, MetadataValue], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        gguf.write(tmp_path / "model.gguf", metadata, [])
    assert list(tmp_path.iterdir()) == []


def never() -> np.ndarray:
    raise AssertionError("load was called")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ([TensorSource("", (1,), GGMLType.F32, never)], "empty"),
        ([TensorSource("n" * 64, (1,), GGMLType.F32, never)], "64 bytes"),
        ([TensorSource("é" * 32, (1,), GGMLType.F32, never)], "64 bytes"),
        ([TensorSource("a", (1,), GGMLType.F32, never)] * 2, "'a' occurs twice"),
        ([TensorSource("a", (1,) * 5, GGMLType.F32, never)], "'a': 5 dimensions"),
        ([TensorSource("a", (-1,), GGMLType.F32, never)], "'a': a negative"),
        ([TensorSource("a", (2, 33), GGMLType.Q8_0, never)], "'a': rows of 33"),
        ([TensorSource("a", (256,), GGMLType.IQ1_S, never)], "'a': type IQ1_S.*Q4_0"),
    ],
)
def test_refused_tensors_are_never_loaded(
    tmp_path: Path, tensors: list[TensorSource], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        gguf.write(tmp_path / "model.gguf", {}, tensors)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("type", "array", "message"),
    [
        (GGMLType.F32, np.zeros((2, 3), np.float32), "shape \\(2, 3\\)"),
        (GGMLType.F32, np.zeros((3, 32), np.int32), "int32"),
        (GGMLType.F32, np.full((3, 32), 1e300), "overflow float32"),
        (GGMLType.F16, np.full((3, 32), 65520.0), "overflow F16"),
        (GGMLType.Q8_0, np.full((3, 32), np.nan), "not finite"),
        (GGMLType.Q4_0, np.full((3, 32), np.inf), "not finite"),
        (GGMLType.Q4_0, np.full((3, 32), 1e9), "scale of Q4_0"),
    ],
)
def test_refused_arrays_name_the_tensor(
    tmp_path: Path, type: GGMLType, array: np.ndarray, message: str
) -> None:
    bad = TensorSource("blk.0.bad", (3, 32), type, lambda: array)
    with pytest.raises(ValueError, match=f"'blk.0.bad': .*{message}"):
        gguf.write(tmp_path / "model.gguf", {}, [bad])
    assert list(tmp_path.iterdir()) == []


def test_one_tensor_at_a_time(tmp_path: Path) -> None:
    calls: list[str] = []

    def loader(name: str):
        def load() -> np.ndarray:
            calls.append(name)
            return np.zeros((2, 32), np.float32)

        return load

    order = ["b", "a", "c"]
    gguf.write(
        tmp_path / "model.gguf",
        {},
        [TensorSource(n, (2, 32), GGMLType.Q4_0, loader(n)) for n in order],
    )
    assert calls == order


def test_other_float_types_are_converted(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    expected = np.linspace(-2, 2, 9, dtype=np.float32)
    gguf.write(
        path,
        {},
        [
            source("double", expected.astype(np.float64)),
            source("half", expected.astype(np.float16)),
            source("brain", expected.astype(ml_dtypes.bfloat16)),
            source("big endian", expected.astype(">f4")),
            source("strided", np.repeat(expected, 2)[::2]),
        ],
    )
    with gguf.open(path) as file:
        for tensor in file.tensors.values():
            np.testing.assert_array_equal(tensor.dequantize(), expected)


def test_a_file_may_replace_itself(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    array = np.arange(64, dtype=np.float32).reshape(2, 32)
    gguf.write(path, {}, [source("w", array)])
    with gguf.open(path) as file:
        gguf.write(
            path,
            {},
            [TensorSource("w", (2, 32), GGMLType.F16, file.tensors["w"].dequantize)],
        )
        np.testing.assert_array_equal(file.tensors["w"].dequantize(), array)
    with gguf.open(path) as file:
        assert file.tensors["w"].type == GGMLType.F16
        np.testing.assert_array_equal(file.tensors["w"].dequantize(), array)
