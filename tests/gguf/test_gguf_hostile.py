"""Files that lie: only GGUFError, and never more memory than the file."""

import itertools
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from simplex_jax import gguf

U32, ARRAY, STRING, BOOL = 4, 9, 8, 7
F32, Q8_0 = 0, 8
HUGE = 2**63 - 1


def text(value: str | bytes, length: int | None = None) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data) if length is None else length) + data


def kv(key: str, type_id: int = U32, value: bytes = b"\7\0\0\0") -> bytes:
    return text(key) + struct.pack("<i", type_id) + value


def array(element_id: int, count: int, data: bytes = b"") -> bytes:
    return struct.pack("<iQ", element_id, count & (2**64 - 1)) + data


def tensor(
    name: str = "a.weight",
    ne: tuple[int, ...] = (4, 2),
    type_id: int = F32,
    offset: int = 0,
    n_dims: int | None = None,
) -> bytes:
    n_dims = len(ne) if n_dims is None else n_dims
    return (
        text(name)
        + struct.pack(f"<I{len(ne)}q", n_dims, *ne)
        + struct.pack("<iQ", type_id, offset)
    )


def container(
    *kvs: bytes,
    tensors: tuple[bytes, ...] = (),
    data: bytes = b"",
    magic: bytes = b"GGUF",
    version: int = 3,
    n_tensors: int | None = None,
    n_kv: int | None = None,
    alignment: int = 32,
) -> bytes:
    head = magic + struct.pack(
        "<Iqq",
        version,
        len(tensors) if n_tensors is None else n_tensors,
        len(kvs) if n_kv is None else n_kv,
    )
    head += b"".join(kvs) + b"".join(tensors)
    return head + bytes(-len(head) % alignment) + data


ONE = (tensor(),)
DATA = bytes(32)

REFUSED = {
    "empty file": (b"", "empty"),
    "bad magic": (container(magic=b"FUGU"), "FUGU"),
    "version 0": (container(version=0), "version 0"),
    "version 1": (container(version=1), "version 1"),
    "future version": (container(version=4), "version 4"),
    "byte-swapped": (container(version=3 << 24), "big endian"),
    "tensor count -1": (container(n_tensors=-1), "tensor count is -1"),
    "tensor count huge": (container(n_tensors=HUGE), "tensor count"),
    "kv count -1": (container(n_kv=-1), "metadata count is -1"),
    "kv count huge": (container(n_kv=HUGE), "metadata count"),
    "kv count one too many": (container(kv("a"), n_kv=2, alignment=1), "metadata"),
    "key size -1": (
        container(text(b"some.key", 2**64 - 1) + bytes(8)),
        "string of 18446744073709551615 bytes",
    ),
    "empty key": (container(kv("")), "empty"),
    "key with NUL": (container(kv("a\0b")), "NUL"),
    "key too long": (container(kv("k" * 65536)), "65536 bytes"),
    "key not UTF-8": (container(text(b"\xff\xfe") + bytes(8)), "UTF-8"),
    "value type 13": (container(kv("a", 13)), "value type 13"),
    "value type -1": (container(kv("a", -1)), "value type -1"),
    "duplicate key": (container(kv("a"), kv("a")), "twice"),
    "bool of 2": (container(kv("a", BOOL, b"\2") + bytes(8)), "stored as 2"),
    "bool array with 255": (
        container(kv("a", ARRAY, array(BOOL, 3, b"\1\0\xff"))),
        "stored as 255",
    ),
    "string not UTF-8": (container(kv("a", STRING, text(b"\xed\xa0\x80"))), "UTF-8"),
    "string huge": (container(kv("a", STRING, text(b"", HUGE))), "string of"),
    "element type 13": (
        container(kv("a", ARRAY, array(13, 1, bytes(8)))),
        "element type 13",
    ),
    "array of arrays": (
        container(kv("a", ARRAY, array(ARRAY, 1, array(U32, 1, bytes(4))))),
        "array of arrays",
    ),
    "array length 2^63": (container(kv("a", ARRAY, array(U32, 2**63))), "length"),
    "array length huge": (container(kv("a", ARRAY, array(U32, 2**40))), "length"),
    "string array huge": (container(kv("a", ARRAY, array(STRING, HUGE))), "length"),
    "array overruns": (
        container(kv("a", ARRAY, array(STRING, 1, text(b"ab", 2**33)))),
        "string of",
    ),
    "alignment 0": (
        container(kv("general.alignment", U32, bytes(4))),
        "power of two",
    ),
    "alignment 13": (
        container(kv("general.alignment", U32, struct.pack("<I", 13))),
        "power of two",
    ),
    "alignment huge": (
        container(kv("general.alignment", U32, struct.pack("<I", 2**31))),
        "power of two",
    ),
    "alignment is i32": (
        container(kv("general.alignment", 5, struct.pack("<i", 32))),
        "uint32",
    ),
    "alignment is text": (
        container(kv("general.alignment", STRING, text("32"))),
        "uint32",
    ),
    "tensor name of 64 bytes": (
        container(tensors=(tensor("n" * 64),), data=DATA),
        "64 bytes",
    ),
    "tensor name empty": (container(tensors=(tensor(""),), data=DATA), "empty"),
    "tensor name with NUL": (
        container(tensors=(tensor("a\0"),), data=DATA),
        "NUL",
    ),
    "five dimensions": (
        container(tensors=(tensor(ne=(1, 1, 1, 1, 1)),), data=DATA),
        "5 dimensions",
    ),
    "dimensions 2^32-1": (
        container(tensors=(tensor(n_dims=2**32 - 1),), data=DATA),
        "4294967295 dimensions",
    ),
    "ne -1": (container(tensors=(tensor(ne=(-1, 2)),), data=DATA), "negative"),
    "ne product overflows": (
        container(tensors=(tensor(ne=(2**32, 2**32)),), data=DATA),
        "2\\^59",
    ),
    "ne product overflows to 0": (
        container(tensors=(tensor(ne=(2**62, 4, 4)),), data=DATA),
        "2\\^59",
    ),
    "ne product overflows beside a 0": (
        container(tensors=(tensor(ne=(0, HUGE, HUGE)),), data=DATA),
        "2\\^59",
    ),
    "nbytes overflows": (
        container(tensors=(tensor(ne=(2**58,)),), data=DATA),
        "truncated",
    ),
    "padding wraps": (
        container(tensors=(tensor(ne=(2**59 - 1,)), tensor("b")), data=DATA),
        "truncated",
    ),
    "type one past the last": (
        container(tensors=(tensor(type_id=1000),), data=DATA),
        "type 1000",
    ),
    "type -1": (container(tensors=(tensor(type_id=-1),), data=DATA), "type -1"),
    "type removed": (container(tensors=(tensor(type_id=4),), data=DATA), "type 4"),
    "row not of whole blocks": (
        container(tensors=(tensor(ne=(33, 1), type_id=Q8_0),), data=bytes(96)),
        "blocks of 32",
    ),
    "offset off by one": (
        container(tensors=(tensor(offset=1),), data=bytes(64)),
        "offset 1",
    ),
    "offset leaves a gap": (
        container(tensors=(tensor(), tensor("b", offset=64)), data=bytes(128)),
        "offset 64",
    ),
    "offset -1": (
        container(tensors=(tensor(offset=2**64 - 1),), data=DATA),
        "offset 18446744073709551615",
    ),
    "same offset twice": (
        container(tensors=(tensor(), tensor("b")), data=bytes(64)),
        "offset 0",
    ),
    "duplicate tensor name": (
        container(tensors=(tensor(), tensor(offset=32)), data=bytes(64)),
        "twice",
    ),
    "offsets of another alignment": (
        container(
            kv("general.alignment", U32, struct.pack("<I", 64)),
            tensors=(tensor(), tensor("b", offset=32)),
            data=bytes(256),
        ),
        "offset 32",
    ),
    "data truncated": (container(tensors=ONE, data=bytes(31)), "truncated"),
    "data missing": (container(tensors=ONE), "truncated"),
    "data larger than any memory": (
        container(tensors=(tensor(ne=(2**40, 2**10)),), data=DATA),
        "truncated",
    ),
}

ACCEPTED = {
    "nothing in it": container(),
    "nothing, and no padding": container(alignment=1),
    "version 2": container(kv("a"), version=2, tensors=ONE, data=DATA),
    "every part": container(kv("a"), tensors=ONE, data=DATA),
    "no dimensions": container(tensors=(tensor(ne=()),), data=DATA),
    "zero dimension": container(tensors=(tensor(ne=(0, 2)), tensor("b")), data=DATA),
    "zero dimensions only": container(tensors=(tensor(ne=(4, 0)),), alignment=1),
    "zero dimension beside the largest": container(tensors=(tensor(ne=(2**59, 0)),)),
    "empty array": container(kv("a", ARRAY, array(U32, 0))),
    "empty string array": container(kv("a", ARRAY, array(STRING, 0))),
    "alignment 1": container(
        kv("general.alignment", U32, struct.pack("<I", 1)),
        tensors=(tensor(ne=(3,)), tensor("b", offset=12)),
        data=bytes(44),
        alignment=1,
    ),
    "alignment 4096": container(
        kv("general.alignment", U32, struct.pack("<I", 4096)),
        tensors=(tensor(), tensor("b", offset=4096)),
        data=bytes(8192),
        alignment=4096,
    ),
    "last padding missing": container(tensors=(tensor(ne=(1,)),), data=bytes(4)),
    "bytes after the data": container(tensors=ONE, data=DATA + b"trailer"),
}


def load_all(path: Path) -> None:
    """Read a file and decode all of it."""
    with gguf.open(path) as file:
        gguf.summary(file)
        for tensor in file.tensors.values():
            assert tensor.raw().nbytes == tensor.nbytes
            assert tensor.dequantize().shape == tensor.shape


@pytest.mark.parametrize("case", REFUSED)
def test_refuses(case: str, tmp_path: Path) -> None:
    data, message = REFUSED[case]
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    with pytest.raises(gguf.GGUFError, match=message) as caught:
        gguf.open(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepts(case: str, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(ACCEPTED[case])
    load_all(path)


def test_refusals_allocate_little(tmp_path: Path) -> None:
    # Behind the lying count stand bytes enough to make a naive bound generous.
    filler = bytes(1 << 16)
    paths = []
    for index, (data, _) in enumerate(REFUSED.values()):
        paths.append(tmp_path / f"{index}.gguf")
        paths[-1].write_bytes(data + filler)
    tracemalloc.start()
    try:
        for path in paths:
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            try:
                gguf.open(path).close()
            except gguf.GGUFError:
                _, peak = tracemalloc.get_traced_memory()
                assert peak - before < 4 * len(filler), path
    finally:
        tracemalloc.stop()


def test_string_above_the_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    length = (1 << 26) + 1
    with path.open("wb") as file:
        file.write(container(kv("a", STRING, struct.pack("<Q", length)), alignment=1))
        file.truncate(file.tell() + length)
    with pytest.raises(gguf.GGUFError, match="limit 67108864"):
        gguf.open(path)


def test_entries_above_the_limit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    count = (1 << 20) + 1
    for head in (container(n_tensors=count), container(n_kv=count)):
        with path.open("wb") as file:
            file.write(head)
            file.truncate(1 << 26)
        with pytest.raises(gguf.GGUFError, match="limit 1048576"):
            gguf.open(path)


@pytest.fixture(scope="module")
def valid() -> bytes:
    """A file with every kind of value, and blocks; no padding after them."""
    kvs = [
        kv("general.architecture", STRING, text("llama")),
        kv("b", BOOL, b"\1"),
        kv("s", ARRAY, array(STRING, 3, text("a") + text("") + text("Ġé"))),
        kv("t", ARRAY, array(BOOL, 2, b"\0\1")),
    ]
    codes = "BbHhIif"
    for type_id, code in enumerate(codes):
        kvs.append(kv(f"n{type_id}", type_id, struct.pack(f"<{code}", 1)))
    for type_id, code in zip((10, 11, 12), "Qqd", strict=True):
        kvs.append(kv(f"n{type_id}", type_id, struct.pack(f"<{code}", 1)))
        kvs.append(kv(f"a{type_id}", ARRAY, array(type_id, 1, bytes(8))))
    tensors = (
        tensor("x.weight", (32, 2), Q8_0),
        tensor("y.weight", (5,), F32, 96),
        tensor("z", (), 30, 128),
    )
    data = bytes(range(68)) + bytes(28) + bytes(range(20)) + bytes(12) + b"\x80\x3f"
    return container(*kvs, tensors=tensors, data=data)


def test_every_truncation_is_refused(valid: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(valid)
    load_all(path)
    for length in range(len(valid)):
        path.write_bytes(valid[:length])
        with pytest.raises(gguf.GGUFError):
            gguf.open(path)


@pytest.mark.slow
def test_every_flipped_bit_loads_or_is_refused(valid: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    header_bytes = len(valid) - 130
    refused = 0
    masks = [1 << bit for bit in range(8)] + [0xFF]
    for position, mask in itertools.product(range(header_bytes), masks):
        damaged = bytearray(valid)
        damaged[position] ^= mask
        path.write_bytes(damaged)
        try:
            load_all(path)
        except gguf.GGUFError:
            refused += 1
    # Values and letters of names may change unseen; structure may not.
    assert 0.4 < refused / (header_bytes * len(masks)) < 1


def test_errors_stay_short(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(container(kv("k" * 60000, 13)))
    with pytest.raises(gguf.GGUFError) as caught:
        gguf.open(path)
    assert len(str(caught.value)) < 1000


def test_closed_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(ACCEPTED["every part"])
    with gguf.open(path) as file:
        tensor = file.tensors["a.weight"]
        view = tensor.raw()
        with pytest.raises(KeyError, match="no tensor 'b'"):
            file.tensors["b"]
    assert not view.flags.writeable
    np.testing.assert_array_equal(view, 0)
    with pytest.raises(ValueError, match="closed"):
        tensor.dequantize()


def test_missing_file_and_folder_keep_their_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        gguf.open(tmp_path / "absent.gguf")
    with pytest.raises(IsADirectoryError):
        gguf.open(tmp_path)
