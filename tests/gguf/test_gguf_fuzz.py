"""Files damaged at random: they load, or GGUFError says why not; nothing else."""

import faulthandler
import itertools
import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from draws import draws
from gguf_helpers import (
    ARRAY,
    BOOL,
    HALVES,
    HUGE,
    STRING,
    array,
    container,
    kv,
    load_all,
    random_blocks,
    tensor,
    text,
)
from hypothesis import given
from hypothesis import strategies as st

from simplex_jax import gguf
from simplex_jax.gguf import GGMLType


@pytest.fixture(autouse=True)
def watchdog() -> Iterator[None]:
    """End the process where a file hangs it, with a traceback."""
    yield
    faulthandler.cancel_dump_traceback_later()


def loads(path: Path, data: bytes) -> bool:
    """Whether a file loads; what it raises but GGUFError goes on up."""
    path.write_bytes(data)
    faulthandler.dump_traceback_later(60, exit=True)
    try:
        load_all(path)
    except gguf.GGUFError as error:
        assert str(path) in str(error)
        return False
    return True


def peak_bytes(path: Path) -> int:
    """Return the most memory that opening a file took, refused or not."""
    tracemalloc.start()
    try:
        gguf.open(path).close()
    except gguf.GGUFError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak


def every_kind_of_value() -> list[bytes]:
    kvs = [
        kv("general.architecture", STRING, text("llama")),
        kv("b", BOOL, b"\1"),
        kv("s", ARRAY, array(STRING, 3, text("a") + text("") + text("Ġé"))),
        kv("t", ARRAY, array(BOOL, 2, b"\0\1")),
    ]
    for type_id, code in enumerate("BbHhIif"):
        kvs.append(kv(f"n{type_id}", type_id, struct.pack(f"<{code}", 1)))
    for type_id, code in zip((10, 11, 12), "Qqd", strict=True):
        kvs.append(kv(f"n{type_id}", type_id, struct.pack(f"<{code}", 1)))
        kvs.append(kv(f"a{type_id}", ARRAY, array(type_id, 1, bytes(8))))
    return kvs


@pytest.fixture(scope="module")
def small() -> bytes:
    """A file with every kind of value, and blocks; no padding after them."""
    tensors = (
        tensor("x.weight", (32, 2), GGMLType.Q8_0),
        tensor("y.weight", (5,), GGMLType.F32, 96),
        tensor("z", (), GGMLType.BF16, 128),
    )
    data = bytes(range(68)) + bytes(28) + bytes(range(20)) + bytes(12) + b"\x80\x3f"
    return container(*every_kind_of_value(), tensors=tensors, data=data)


SMALL_DATA = 130


@pytest.fixture(scope="module")
def typical() -> bytes:
    """A file below 64 kB with a vocabulary and a tensor of every block type."""
    vocabulary = b"".join(text(f"token{i}") for i in range(300))
    infos, data = [], b""
    for name in HALVES:
        type = GGMLType[name]
        elements, _ = gguf.block_size(type)
        infos.append(tensor(name, (elements, 20), type, len(data)))
        data += random_blocks(type, 20).tobytes()
        data += bytes(-len(data) % 32)
    file = container(
        *every_kind_of_value(),
        kv("tokenizer.ggml.tokens", ARRAY, array(STRING, 300, vocabulary)),
        kv("tokenizer.ggml.scores", ARRAY, array(6, 300, bytes(1200))),
        tensors=tuple(infos),
        data=data,
    )
    assert len(file) < 1 << 16
    return file


def test_every_truncation_is_refused(small: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    assert loads(path, small)
    for length in range(len(small)):
        assert not loads(path, small[:length]), length


@pytest.mark.parametrize("value", [0, 1, 255])
def test_every_header_byte_replaced(value: int, small: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    header_bytes = len(small) - SMALL_DATA
    loaded = 0
    for position in range(header_bytes):
        damaged = bytearray(small)
        damaged[position] = value
        loaded += loads(path, bytes(damaged))
    # Values and letters of names may change unseen; structure may not.
    assert 0 < loaded < 0.9 * header_bytes


@pytest.mark.slow
def test_every_flipped_bit(small: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    header_bytes = len(small) - SMALL_DATA
    masks = [1 << bit for bit in range(8)] + [0xFF]
    loaded = 0
    for position, mask in itertools.product(range(header_bytes), masks):
        damaged = bytearray(small)
        damaged[position] ^= mask
        loaded += loads(path, bytes(damaged))
    assert 0 < loaded < 0.6 * header_bytes * len(masks)


@pytest.mark.parametrize(
    "count", [200, pytest.param(10_000, marks=pytest.mark.nightly)]
)
def test_random_flips(count: int, typical: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    rng = np.random.default_rng(count)
    assert loads(path, typical)
    peak_bytes(path)
    header_bytes = typical.index(b"TQ1_0") + 200
    loaded = 0
    for index in range(count):
        damaged = np.frombuffer(typical, np.uint8).copy()
        # Half of them hit the header, which is a quarter of the file.
        end = header_bytes if index % 2 else len(damaged)
        where = rng.integers(0, end, rng.integers(1, 9))
        damaged[where] ^= rng.integers(1, 256, len(where), np.uint8)
        loaded += loads(path, damaged.tobytes())
        if index % 10 == 1:
            assert peak_bytes(path) < 2 * len(typical)
    assert 0 < loaded < count


COUNTS = st.sampled_from([-1, 0, 1, 2, 3, 7, 2**16, 2**31, 2**32, 2**62, HUGE])
TYPE_IDS = st.integers(-2, 14)


@st.composite
def values(draw: st.DrawFn) -> tuple[int, bytes]:
    """Return a value's type and bytes, which seldom agree."""
    type_id = draw(TYPE_IDS)
    data = draw(st.binary(max_size=24))
    if type_id == STRING:
        length = draw(st.none() | COUNTS)
        return type_id, text(data, None if length is None else length & (2**64 - 1))
    if type_id == ARRAY:
        strings = b"".join(map(text, draw(st.lists(st.binary(max_size=5)))))
        return type_id, array(draw(TYPE_IDS), draw(COUNTS), strings + data)
    return type_id, draw(st.sampled_from([b"\1", bytes(2), bytes(4), bytes(8), data]))


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """Return a file whose parts are well formed apart from a few lies."""
    keys = st.sampled_from(["general.architecture", "general.alignment", "a", "b", ""])
    kvs = [kv(draw(keys), *draw(values())) for _ in range(draw(st.integers(0, 3)))]
    sides = st.sampled_from([0, 1, 2, 32, 256, 2**31, 2**58, -1, HUGE])
    infos, offset = [], 0
    for name in draw(st.lists(st.sampled_from("abc"), max_size=3)):
        ne = tuple(draw(st.lists(sides, max_size=5)))
        lie = draw(st.sampled_from([0, 0, 0, 1, 32, 2**63]))
        infos.append(tensor(name, ne, draw(st.integers(-1, 42)), offset + lie))
        offset += draw(st.sampled_from([0, 32, 64, 128, 160]))
    file = container(
        *kvs,
        tensors=tuple(infos),
        data=bytes(draw(st.integers(0, 2048))),
        version=draw(st.sampled_from([2, 3, 3, 3, 4])),
        n_kv=draw(st.none() | COUNTS),
        n_tensors=draw(st.none() | COUNTS),
    )
    return file[: draw(st.integers(0, len(file)) | st.just(len(file)))]


@draws(300)
@given(file=headers())
def test_made_up_headers(file: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "made_up.gguf"
    loads(path, file)
    # What a few objects and one message take, whatever the file claims.
    assert peak_bytes(path) < 2 * len(file) + (1 << 16)
