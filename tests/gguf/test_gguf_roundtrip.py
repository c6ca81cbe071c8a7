"""What is written is what is read, here and in llama.cpp."""

import ctypes
import inspect
import json
import math
import struct
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from simplex_jax import gguf
from simplex_jax.gguf import GGMLType, MetadataValue, TensorSource

NUMBER_DTYPES = [
    np.dtype(name)
    for name in (
        "uint8 int8 uint16 int16 uint32 int32 float32 uint64 int64 float64".split()
    )
]
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


def same(a: MetadataValue, b: MetadataValue) -> bool:
    """Whether type, dtype and bits are equal; NaN equals itself."""
    if isinstance(a, np.ndarray | np.generic):
        return (
            isinstance(b, np.ndarray | np.generic)
            and type(a) is type(b)
            and a.dtype == b.dtype
            and a.shape == b.shape
            and a.tobytes() == b.tobytes()
        )
    return type(a) is type(b) and a == b


def source(name: str, array: np.ndarray, type: GGMLType = GGMLType.F32) -> TensorSource:
    return TensorSource(name, array.shape, type, lambda: array)


@settings(deadline=None, max_examples=150)
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


class _Params(ctypes.Structure):
    _fields_ = [("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p)]


@pytest.fixture(scope="module")
def ggml() -> ctypes.CDLL:
    """The container functions of the library inside llama-cpp-python."""
    llama_cpp = pytest.importorskip("llama_cpp")
    folder = Path(str(llama_cpp.__file__)).parent / "lib"
    lib = ctypes.CDLL(str(folder / "libggml-base.so"))
    lib.gguf_init_from_file.restype = ctypes.c_void_p
    lib.gguf_init_from_file.argtypes = [ctypes.c_char_p, _Params]
    lib.gguf_init_empty.restype = ctypes.c_void_p
    lib.gguf_get_key.restype = lib.gguf_get_tensor_name.restype = ctypes.c_char_p
    for name in ("n_kv", "n_tensors", "tensor_offset", "data_offset", "tensor_size"):
        getattr(lib, f"gguf_get_{name}").restype = ctypes.c_int64
    return lib


def test_llama_cpp_reads_what_is_written(ggml: ctypes.CDLL, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    rng = np.random.default_rng(0)
    metadata: dict[str, MetadataValue] = {
        "general.alignment": np.uint32(64),
        "general.architecture": "llama",
        "flag": True,
        "flags": np.array([True, False]),
        "tokens": ["Ġa", "", "é"],
        **{f"scalar.{d}": d.type(3) for d in NUMBER_DTYPES},
        **{f"array.{d}": np.arange(3, dtype=d) for d in NUMBER_DTYPES},
    }
    sources = [
        source(f"t{i}.{type.name}", rng.normal(size=shape), type)
        for i, (type, shape) in enumerate(
            [
                (GGMLType.F32, ()),
                (GGMLType.F16, (5,)),
                (GGMLType.BF16, (2, 3)),
                (GGMLType.Q8_0, (2, 3, 32)),
                (GGMLType.Q4_0, (1, 2, 3, 64)),
                (GGMLType.F32, (3, 0)),
                (GGMLType.F32, (1,)),
            ]
        )
    ]
    gguf.write(path, metadata, sources)
    context = ggml.gguf_init_from_file(str(path).encode(), _Params(True, None))
    assert context
    pointer = ctypes.c_void_p(context)
    try:
        keys = [
            ggml.gguf_get_key(pointer, ctypes.c_int64(i)).decode()
            for i in range(ggml.gguf_get_n_kv(pointer))
        ]
        assert keys[0] == "general.architecture"
        assert sorted(keys) == sorted(metadata)
        start = ggml.gguf_get_data_offset(pointer)
        with gguf.open(path) as file:
            assert ggml.gguf_get_n_tensors(pointer) == len(file.tensors)
            for i, info in enumerate(file.tensors.values()):
                index = ctypes.c_int64(i)
                assert ggml.gguf_get_tensor_name(pointer, index) == info.name.encode()
                offset = ggml.gguf_get_tensor_offset(pointer, index)
                assert start + offset == info.offset
                assert ggml.gguf_get_tensor_type(pointer, index) == info.type
                assert ggml.gguf_get_tensor_size(pointer, index) == info.nbytes
    finally:
        ggml.gguf_free(pointer)


def test_what_llama_cpp_writes_is_read(ggml: ctypes.CDLL, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    context = ctypes.c_void_p(ggml.gguf_init_empty())
    try:
        ggml.gguf_set_val_u8(context, b"u8", ctypes.c_uint8(200))
        ggml.gguf_set_val_i64(context, b"i64", ctypes.c_int64(-(2**40)))
        ggml.gguf_set_val_f32(context, b"f32", ctypes.c_float(0.1))
        ggml.gguf_set_val_f64(context, b"f64", ctypes.c_double(math.pi))
        ggml.gguf_set_val_bool(context, b"bool", ctypes.c_bool(True))
        ggml.gguf_set_val_str(context, b"str", "Ġé".encode())
        strings = (ctypes.c_char_p * 2)(b"a", b"")
        ggml.gguf_set_arr_str(context, b"strs", strings, ctypes.c_size_t(2))
        numbers = (ctypes.c_int32 * 3)(1, -2, 3)
        ggml.gguf_set_arr_data(context, b"i32s", 5, numbers, ctypes.c_size_t(3))
        assert ggml.gguf_write_to_file(context, str(path).encode(), True)
    finally:
        ggml.gguf_free(context)
    expected: dict[str, MetadataValue] = {
        "u8": np.uint8(200),
        "i64": np.int64(-(2**40)),
        "f32": np.float32(0.1),
        "f64": np.float64(math.pi),
        "bool": True,
        "str": "Ġé",
        "strs": ["a", ""],
        "i32s": np.array([1, -2, 3], np.int32),
    }
    with gguf.open(path) as file:
        assert list(file.metadata) == list(expected)
        assert all(same(expected[key], file.metadata[key]) for key in expected)
    ours = tmp_path / "ours.gguf"
    gguf.write(ours, expected, [])
    assert ours.read_bytes() == path.read_bytes()
