"""One file, three readers: here, gguf-py and llama.cpp see the same."""

import ctypes
import math
from pathlib import Path
from typing import Any

import gguf as gguf_py
import numpy as np
import pytest
from gguf_helpers import NUMBER_DTYPES, same, source

from simplex_jax import gguf
from simplex_jax.gguf import MetadataValue
from simplex_jax.gguf._codecs import ENCODABLE
from simplex_jax.gguf._types import ARRAY, BOOL, NUMBERS, STRING

METADATA: dict[str, MetadataValue] = {
    "general.alignment": np.uint32(64),
    "general.architecture": "llama",
    "tokenizer.ggml.model": "no_vocab",
    "text": "Ġé\n日本",
    "flag": True,
    "flags": np.array([True, False]),
    "tokens": ["Ġa", "", "é"],
    **{f"scalar.{d}": d.type(3) for d in NUMBER_DTYPES},
    **{f"array.{d}": np.arange(3, dtype=d) for d in NUMBER_DTYPES},
    "least": np.int64(-(2**63)),
    "most": np.uint64(2**64 - 1),
    "single": np.float32(0.1),
    "double": np.float64(math.pi),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with every kind of value and every type that can be written."""
    rng = np.random.default_rng(0)
    shapes = [(), (5,), (2, 3), (1, 2, 3, 1)]
    sources = [
        source(f"plain.{index}", rng.normal(size=shape))
        for index, shape in enumerate(shapes)
    ]
    for type in sorted(ENCODABLE):
        sources.append(source(type.name, rng.normal(size=(2, 3, 512)), type))
    path = tmp_path_factory.mktemp("interop") / "model.gguf"
    gguf.write(path, METADATA, sources)
    return path


def test_this_reader_sees_what_was_written(path: Path) -> None:
    with gguf.open(path) as file:
        assert set(file.metadata) == set(METADATA)
        assert all(same(METADATA[key], file.metadata[key]) for key in METADATA)


def test_gguf_py_sees_the_same(path: Path) -> None:
    theirs = gguf_py.GGUFReader(path)
    with gguf.open(path) as file:
        for key, value in file.metadata.items():
            found = theirs.fields[key].contents()
            numbers = isinstance(value, np.generic | np.ndarray)
            assert found == (value.tolist() if numbers else value), key
        assert [tensor.name for tensor in theirs.tensors] == list(file.tensors)
        for other in theirs.tensors:
            tensor = file.tensors[other.name]
            assert tuple(other.shape[::-1].tolist()) == tensor.shape
            assert other.tensor_type == tensor.type
            assert other.data_offset == tensor.offset
            assert other.data.tobytes() == tensor.raw().tobytes()


class _Params(ctypes.Structure):
    _fields_ = [("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p)]


class _Tensor(ctypes.Structure):
    """The beginning of a ggml_tensor."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),
    ]


@pytest.fixture(scope="module")
def ggml() -> ctypes.CDLL:
    """The container functions of the library inside llama-cpp-python."""
    llama_cpp = pytest.importorskip("llama_cpp")
    folder = Path(str(llama_cpp.__file__)).parent / "lib"
    lib = ctypes.CDLL(str(folder / "libggml-base.so"))
    pointers = "gguf_init_from_file gguf_init_empty ggml_get_data gguf_get_val_data"
    for name in f"{pointers} gguf_get_arr_data".split():
        getattr(lib, name).restype = ctypes.c_void_p
    lib.gguf_init_from_file.argtypes = [ctypes.c_char_p, _Params]
    lib.ggml_get_tensor.restype = ctypes.POINTER(_Tensor)
    lib.ggml_nbytes.restype = ctypes.c_size_t
    for name in ("key", "tensor_name", "val_str", "arr_str"):
        getattr(lib, f"gguf_get_{name}").restype = ctypes.c_char_p
    for name in ("n_kv", "n_tensors", "arr_n"):
        getattr(lib, f"gguf_get_{name}").restype = ctypes.c_int64
    return lib


def libggml_value(lib: ctypes.CDLL, context: ctypes.c_void_p, at: int) -> MetadataValue:
    """Return a metadata value as libggml holds it."""

    def get(name: str, *more: ctypes._SimpleCData) -> Any:
        return getattr(lib, f"gguf_get_{name}")(context, ctypes.c_int64(at), *more)

    def numbers(type_id: int, data: int, count: int) -> np.ndarray:
        dtype = np.dtype(bool) if type_id == BOOL else NUMBERS[type_id]
        return np.frombuffer(ctypes.string_at(data, count * dtype.itemsize), dtype)

    type_id = get("kv_type")
    if type_id == STRING:
        return get("val_str").decode()
    if type_id != ARRAY:
        value = numbers(type_id, get("val_data"), 1)[0]
        return bool(value) if type_id == BOOL else value
    count = get("arr_n")
    if get("arr_type") == STRING:
        return [get("arr_str", ctypes.c_size_t(i)).decode() for i in range(count)]
    return numbers(get("arr_type"), get("arr_data"), count)


def test_libggml_sees_the_same(ggml: ctypes.CDLL, path: Path) -> None:
    data = ctypes.c_void_p()
    params = _Params(False, ctypes.addressof(data))
    context = ctypes.c_void_p(ggml.gguf_init_from_file(str(path).encode(), params))
    assert context
    try:
        with gguf.open(path) as file:
            assert ggml.gguf_get_n_kv(context) == len(file.metadata)
            for at, (key, value) in enumerate(file.metadata.items()):
                assert ggml.gguf_get_key(context, ctypes.c_int64(at)) == key.encode()
                assert same(value, libggml_value(ggml, context, at)), key
            assert ggml.gguf_get_n_tensors(context) == len(file.tensors)
            for name, tensor in file.tensors.items():
                other = ggml.ggml_get_tensor(data, name.encode())
                ne = [*tensor.shape[::-1], 1, 1, 1, 1][:4]
                assert list(other.contents.ne) == ne
                assert other.contents.type == tensor.type
                nbytes = ggml.ggml_nbytes(other)
                theirs = ctypes.string_at(ggml.ggml_get_data(other), nbytes)
                assert theirs == tensor.raw().tobytes()
    finally:
        ggml.gguf_free(context)
        ggml.ggml_free(data)


def test_llama_cpp_tells_the_same_metadata(path: Path) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    parameters = llama_cpp.llama_model_default_params()
    parameters.use_extra_bufts = False
    parameters.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
    assert model
    try:
        buffer = ctypes.create_string_buffer(1 << 12)

        def told(key: str) -> str:
            size = llama_cpp.llama_model_meta_val_str(
                model, key.encode(), buffer, len(buffer)
            )
            assert size >= 0, key
            return buffer.value.decode()

        with gguf.open(path) as file:
            for key, value in file.metadata.items():
                if isinstance(value, str):
                    assert told(key) == value
                elif isinstance(value, bool):
                    assert told(key) == str(value).lower()
                elif isinstance(value, np.generic):
                    # Six digits after the point are all that it tells.
                    assert float(told(key)) == pytest.approx(float(value), abs=5e-7)
    finally:
        llama_cpp.llama_model_free(model)


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
