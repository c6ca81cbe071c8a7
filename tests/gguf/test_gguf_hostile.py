"""Files that lie, one lie each: what is refused, in which words, what is not.

They include the kinds of llama.cpp's own list, made anew from its description:
a magic, versions, counts and sizes of -1, keys, types, alignments, names,
dimensions, products that overflow, offsets and missing data. libggml must
give the same verdict on each, but where this reader is stricter.
"""

import os
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from gguf_helpers import (
    ARRAY,
    BOOL,
    HUGE,
    Q8_0,
    STRING,
    U32,
    array,
    container,
    kv,
    load_all,
    tensor,
    text,
)

from simplex_jax import gguf

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
        container(tensors=(tensor(type_id=max(gguf.GGMLType) + 1),), data=DATA),
        f"type {max(gguf.GGMLType) + 1}",
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


# libggml takes these: bytes that C's strings or a later reader would misread.
STRICTER = {
    "key with NUL",
    "key too long",
    "key not UTF-8",
    "bool of 2",
    "bool array with 255",
    "string not UTF-8",
    "alignment huge",
    "tensor name empty",
    "tensor name with NUL",
    "ne product overflows beside a 0",
}
# libggml wants the padding before the data even where no data follows, and the
# padding after it where it copies the data, as here, instead of mapping it.
PADDING_MISSING = {"zero dimensions only", "last padding missing"}

# One process a file: what libggml cannot allocate, it aborts over.
VERDICTS = """
import ctypes, os, sys
class Params(ctypes.Structure):
    _fields_ = [("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p)]
lib = ctypes.CDLL(sys.argv[1])
lib.gguf_init_from_file.restype = ctypes.c_void_p
lib.gguf_init_from_file.argtypes = [ctypes.c_char_p, Params]
for path in sys.argv[2:]:
    child = os.fork()
    if not child:
        data = ctypes.c_void_p()
        params = Params(False, ctypes.addressof(data))
        os._exit(lib.gguf_init_from_file(path.encode(), params) is None)
    print("verdict", os.waitpid(child, 0)[1] == 0, flush=True)
"""


def test_libggml_gives_the_same_verdicts(tmp_path: Path) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    lib = Path(str(llama_cpp.__file__)).parent / "lib" / "libggml-base.so"
    files = {name: data for name, (data, _) in REFUSED.items()} | ACCEPTED
    paths = []
    for data in files.values():
        paths.append(tmp_path / f"{len(paths)}.gguf")
        paths[-1].write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", VERDICTS, lib, *paths],
        capture_output=True,
        text=True,
        errors="replace",
        check=True,
        timeout=120,
        env={**os.environ, "GGML_NO_BACKTRACE": "1"},
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("verdict")]
    theirs = {
        name for name, line in zip(files, lines, strict=True) if line.endswith("True")
    }
    assert theirs == ACCEPTED.keys() - PADDING_MISSING | STRICTER


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
