"""Whole files: what is chosen, carried over, refused, and equal to llama.cpp's."""

import errno
import json
import resource
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf_models import Model, llama_quantize

from simplex_jax import gguf
from simplex_jax.gguf import GGMLType, MetadataValue, TensorSource

MODEL = Model("llama", 8, 256, 256, 4, 2, 64, 300, False)
NARROW = Model("qwen2", 8, 96, 160, 4, 2, 24, 300, True)
DOWN = "blk.3.ffn_down.weight"


def weights(model: Model, seed: int = 0) -> dict[str, np.ndarray]:
    draws = np.random.default_rng(seed)
    return {
        name: draws.normal(0, 0.05, shape).astype(np.float32)
        for name, shape in model.shapes().items()
    }


def save(
    path: Path,
    model: Model,
    arrays: Mapping[str, np.ndarray],
    type: GGMLType = GGMLType.F32,
    extra: Mapping[str, MetadataValue] | None = None,
) -> Path:
    sources = [
        TensorSource(
            name,
            array.shape,
            type if array.ndim > 1 else GGMLType.F32,
            lambda a=array: a,
        )
        for name, array in arrays.items()
    ]
    gguf.write(path, {**model.metadata(), **(extra or {})}, sources, workers=1)
    return path


@pytest.fixture(scope="module")
def f32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    extra: dict[str, MetadataValue] = {
        "general.file_type": np.uint32(0),
        "general.name": "little",
        "tokenizer.ggml.tokens": ["a", "b", "ç"],
        "split.count": np.uint16(1),
        "split.no": np.uint16(0),
        "split.tensors.count": np.int32(147),
        "scores": np.arange(3, dtype=np.float32),
    }
    path = tmp_path_factory.mktemp("quantize") / "f32.gguf"
    return save(path, MODEL, weights(MODEL), extra=extra)


def importances(model: Model) -> dict[str, np.ndarray]:
    draws = np.random.default_rng(7)
    return {
        name: draws.exponential(1, shape[-1]).astype(np.float32)
        for name, shape in model.shapes().items()
        if len(shape) > 1 and name != "token_embd.weight"
    }


def matrix(means: Mapping[str, np.ndarray]) -> gguf.ImportanceMatrix:
    return gguf.ImportanceMatrix(means, 1000, 512, ("some.txt",), "im.gguf")


def test_types_and_bytes_are_those_of_the_parts(f32: Path, tmp_path: Path) -> None:
    gguf.quantize(f32, tmp_path / "q.gguf", "q4_k_m")
    arrays = weights(MODEL)
    types = gguf.tensor_types(MODEL.shapes(), "q4_k_m", MODEL.metadata())
    with gguf.open(tmp_path / "q.gguf") as file:
        assert list(file.tensors) == gguf.file_order(arrays)
        for name, info in file.tensors.items():
            assert info.type == types.get(name, GGMLType.F32)
            expected = gguf.quantize_array(arrays[name], info.type).reshape(-1)
            np.testing.assert_array_equal(file.tensors[name].raw(), expected)


def test_metadata_is_carried_over(f32: Path, tmp_path: Path) -> None:
    given = matrix(importances(MODEL))
    gguf.quantize(f32, tmp_path / "q.gguf", "q5_k_s", imatrix=given)
    with gguf.open(f32) as before, gguf.open(tmp_path / "q.gguf") as after:
        old, new = dict(before.metadata), dict(after.metadata)
    about = {
        "general.quantization_version": 2,
        "general.file_type": gguf.FILE_TYPES["q5_k_s"],
        "quantize.imatrix.file": "im.gguf",
        "quantize.imatrix.dataset": "some.txt",
        "quantize.imatrix.entries_count": len(given.mean_squares),
        "quantize.imatrix.chunks_count": 2,
    }
    assert list(new)[-6:] == list(about)
    for key, value in about.items():
        assert new.pop(key) == value
    for gone in ("general.file_type", "split.no", "split.count", "split.tensors.count"):
        del old[gone]
    assert list(old) == list(new)
    for key, value in old.items():
        np.testing.assert_array_equal(value, new[key])


def test_importances_weigh_their_tensors(f32: Path, tmp_path: Path) -> None:
    given = {DOWN: importances(MODEL)[DOWN]}
    gguf.quantize(f32, tmp_path / "with.gguf", "q4_k_s", imatrix=matrix(given))
    gguf.quantize(f32, tmp_path / "without.gguf", "q4_k_s")
    with (
        gguf.open(tmp_path / "with.gguf") as a,
        gguf.open(tmp_path / "without.gguf") as b,
    ):
        changed = [
            n
            for n in a.tensors
            if not np.array_equal(a.tensors[n].raw(), b.tensors[n].raw())
        ]
        expected = gguf.quantize_array(weights(MODEL)[DOWN], "Q4_K", given[DOWN])
        np.testing.assert_array_equal(a.tensors[DOWN].raw(), expected.reshape(-1))
    assert changed == [DOWN]


@pytest.mark.parametrize("type", ["F16", "BF16", "Q8_0", "Q4_1"])
def test_other_inputs_are_decoded_first(type: str, tmp_path: Path) -> None:
    path = save(tmp_path / "in.gguf", MODEL, weights(MODEL), GGMLType[type])
    gguf.quantize(path, tmp_path / "q.gguf", "q8_0")
    with gguf.open(path) as before, gguf.open(tmp_path / "q.gguf") as after:
        for name, info in before.tensors.items():
            if len(info.shape) > 1:
                expected = gguf.quantize_array(
                    before.tensors[name].dequantize(), "Q8_0"
                )
                np.testing.assert_array_equal(
                    after.tensors[name].raw(), expected.reshape(-1)
                )
            else:
                np.testing.assert_array_equal(
                    after.tensors[name].raw(), before.tensors[name].raw()
                )


def test_what_has_the_right_type_is_copied(tmp_path: Path) -> None:
    path = save(tmp_path / "in.gguf", MODEL, weights(MODEL), GGMLType.Q5_0)
    given = matrix(importances(MODEL))
    gguf.quantize(path, tmp_path / "q.gguf", "q5_0", imatrix=given)
    with gguf.open(path) as before, gguf.open(tmp_path / "q.gguf") as after:
        name = "blk.7.attn_q.weight"
        assert after.tensors[name].type == GGMLType.Q5_0
        np.testing.assert_array_equal(
            after.tensors[name].raw(), before.tensors[name].raw()
        )


def test_a_tensor_of_a_type_that_cannot_be_written_is_copied(tmp_path: Path) -> None:
    extra = {"rope_freqs.weight": np.arange(8, dtype=np.float32)}
    source = tmp_path / "in.gguf"
    save(source, MODEL, weights(MODEL) | extra)
    raw = bytearray(source.read_bytes())
    # Its type becomes I32, of the same size.
    at = raw.index(b"rope_freqs.weight") + len("rope_freqs.weight") + 4 + 8
    raw[at : at + 4] = int(GGMLType.I32).to_bytes(4, "little")
    source.write_bytes(raw)
    gguf.quantize(source, tmp_path / "q.gguf", "q8_0")
    with gguf.open(tmp_path / "q.gguf") as file:
        assert file.tensors["rope_freqs.weight"].type == GGMLType.I32
        expected = extra["rope_freqs.weight"].view(np.uint8)
        np.testing.assert_array_equal(file.tensors["rope_freqs.weight"].raw(), expected)


def test_plan_says_what_quantize_does(f32: Path, tmp_path: Path) -> None:
    overrides = gguf.Overrides(output_tensor_type="q5_1")
    plan = gguf.plan(f32, "q3_k_l", overrides=overrides)
    assert json.loads(json.dumps(plan)) == plan
    gguf.quantize(f32, tmp_path / "q.gguf", "q3_k_l", overrides=overrides)
    with gguf.open(f32) as before, gguf.open(tmp_path / "q.gguf") as after:
        assert [t["name"] for t in plan["tensors"]] == list(after.tensors)
        for planned in plan["tensors"]:
            old, new = (f.tensors[planned["name"]] for f in (before, after))
            assert planned["type_before"] == old.type.name
            assert planned["type_after"] == new.type.name
            assert planned["bytes_before"] == old.nbytes
            assert planned["bytes_after"] == new.nbytes
            assert tuple(planned["shape"]) == new.shape
        assert plan["bytes_before"] == sum(i.nbytes for i in before.tensors.values())
        assert plan["bytes_after"] == sum(i.nbytes for i in after.tensors.values())
        described = gguf.summary(after)
    assert plan["parameters"] == described["parameters"]
    assert plan["bits_per_weight"] == described["bits_per_weight"]


@pytest.mark.parametrize(
    ("stored", "data", "message"),
    [
        ("Q8_0", np.zeros(33, np.uint8), "'t': load.* uint8 of 33 .* uint8 of 34"),
        ("Q8_0", np.zeros(34, np.int8), "'t': load.* int8 of 34"),
        ("IQ4_NL", np.zeros(34, np.uint8), "'t': load.* IQ4_NL .* uint8 of 18"),
    ],
)
def test_stored_bytes_that_are_not_the_tensor(
    stored: str, data: np.ndarray, message: str, tmp_path: Path
) -> None:
    source = TensorSource("t", (32,), GGMLType.Q4_0, lambda: data, GGMLType[stored])
    with pytest.raises(ValueError, match=message):
        gguf.write(tmp_path / "m.gguf", {}, [source])
    assert list(tmp_path.iterdir()) == []


def test_released_bytes_leave_memory_and_come_back(tmp_path: Path) -> None:
    def resident_kib() -> int:
        status = Path("/proc/self/status").read_text()
        return int(status.split("RssFile:")[1].split()[0])

    path = tmp_path / "m.gguf"
    array = np.arange(1 << 24, dtype=np.float32)
    gguf.write(path, {}, [TensorSource("t", array.shape, GGMLType.F32, lambda: array)])
    with gguf.open(path) as file:
        raw = file.tensors["t"].raw()
        np.testing.assert_array_equal(raw.view(np.float32), array)
        before = resident_kib()
        file.release()
        assert resident_kib() < before - 50_000
        np.testing.assert_array_equal(raw.view(np.float32), array)
    file.release()


def test_progress_ends_at_one(f32: Path, tmp_path: Path) -> None:
    shares: list[float] = []
    gguf.quantize(f32, tmp_path / "q.gguf", "q4_0", progress=shares.append)
    assert shares == sorted(shares)
    assert len(shares) >= len(MODEL.shapes())
    assert shares[-1] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"file_type": "q4"}, "file_type is 'q4'"),
        (
            {"imatrix": matrix({"nothing": np.ones(4, np.float32)})},
            "'nothing', is a tensor",
        ),
        ({"imatrix": matrix({})}, "none of its 0 names"),
        ({"imatrix": matrix({DOWN: np.ones(8, np.float32)})}, rf"{DOWN}.*\(256,\)"),
        ({"imatrix": matrix({DOWN: np.ones(256, np.int32)})}, f"{DOWN}.*int32"),
        ({"imatrix": matrix({DOWN: np.full(256, np.nan, np.float32)})}, f"{DOWN}.*nan"),
        ({"imatrix": matrix({DOWN: np.full(256, -1, np.float32)})}, f"{DOWN}.*-1"),
        ({"workers": 0}, "workers is 0"),
    ],
)
def test_what_cannot_be_asked(
    arguments: dict[str, Any], message: str, f32: Path, tmp_path: Path
) -> None:
    out = tmp_path / "q.gguf"
    with pytest.raises(ValueError, match=message):
        gguf.quantize(f32, out, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_type_that_rows_do_not_divide_into(tmp_path: Path) -> None:
    path = save(tmp_path / "in.gguf", NARROW, weights(NARROW))
    wishes = gguf.Overrides(token_embedding_type="Q4_K")
    for call in (
        lambda: gguf.quantize(path, tmp_path / "q.gguf", overrides=wishes),
        lambda: gguf.plan(path, overrides=wishes),
    ):
        with pytest.raises(ValueError, match="'token_embd.weight': rows of 96"):
            call()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("same", ["in.gguf", "link.gguf", "./in.gguf"])
def test_input_and_output_must_differ(same: str, tmp_path: Path) -> None:
    path = save(tmp_path / "in.gguf", NARROW, weights(NARROW))
    (tmp_path / "link.gguf").symlink_to(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="are one file"):
        gguf.quantize(path, tmp_path / same, "q8_0")
    assert path.read_bytes() == before


@pytest.mark.parametrize("file_type", ["f32", "bf16", "q4_k_m"])
@pytest.mark.parametrize("name", [DOWN, "blk.3.attn_norm.weight"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite(
    bad: float, name: str, file_type: str, tmp_path: Path
) -> None:
    arrays = weights(MODEL)
    arrays[name].flat[-1] = bad
    path = save(tmp_path / "in.gguf", MODEL, arrays)
    with pytest.raises(ValueError, match=f"{name}.*not finite"):
        gguf.quantize(path, tmp_path / "q.gguf", file_type)
    assert list(tmp_path.iterdir()) == [path]


def test_one_part_of_several_is_refused(tmp_path: Path) -> None:
    parts: dict[str, MetadataValue] = {"split.count": np.uint16(2)}
    path = save(tmp_path / "in.gguf", NARROW, weights(NARROW), extra=parts)
    with pytest.raises(gguf.GGUFError, match="one of 2 parts"):
        gguf.quantize(path, tmp_path / "q.gguf")


def test_a_damaged_file_is_refused(f32: Path, tmp_path: Path) -> None:
    path = tmp_path / "in.gguf"
    path.write_bytes(f32.read_bytes()[:-5000])
    with pytest.raises(gguf.GGUFError, match=r"in\.gguf"):
        gguf.quantize(path, tmp_path / "q.gguf")
    assert list(tmp_path.iterdir()) == [path]


def test_full_disk(f32: Path, tmp_path: Path) -> None:
    # The kernel refuses bytes past the limit, as it does on a full disk.
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(OSError, match=r"q\.gguf") as caught:
            gguf.quantize(f32, tmp_path / "q.gguf", "q8_0")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old_handler)
    assert caught.value.errno == errno.EFBIG
    assert list(tmp_path.iterdir()) == []


def same_as_llama_cpp(path: Path, folder: Path, file_type: str, **options: Any) -> None:
    ours, theirs = folder / "ours.gguf", folder / "theirs.gguf"
    llama_quantize(path, theirs, file_type, threads=2, **options)
    means = options.pop("imatrix", None)
    imatrix = None if means is None else matrix(means)
    gguf.quantize(path, ours, file_type, imatrix=imatrix, **options)
    if imatrix is None:
        assert ours.read_bytes() == theirs.read_bytes()
    # llama-quantize, not the library, adds the keys of the imatrix.
    with gguf.open(ours) as a, gguf.open(theirs) as b:
        assert list(a.tensors) == list(b.tensors)
        for name, info in b.tensors.items():
            assert a.tensors[name].type == info.type, name
            np.testing.assert_array_equal(
                a.tensors[name].raw(), b.tensors[name].raw(), err_msg=name
            )


@pytest.mark.parametrize("file_type", gguf.FILE_TYPES)
@pytest.mark.parametrize("weigh", [False, True])
def test_files_equal_llama_cpps(
    weigh: bool, file_type: str, f32: Path, tmp_path: Path
) -> None:
    pytest.importorskip("llama_cpp")
    imatrix = importances(MODEL) if weigh else None
    same_as_llama_cpp(f32, tmp_path, file_type, imatrix=imatrix)


@pytest.mark.parametrize("type", ["F16", "BF16", "Q4_1", "Q5_K", "Q3_K"])
@pytest.mark.parametrize("file_type", ["q4_k_m", "q8_0", "f16"])
def test_requantized_files_equal_llama_cpps(
    type: str, file_type: str, tmp_path: Path
) -> None:
    pytest.importorskip("llama_cpp")
    path = save(tmp_path / "in.gguf", MODEL, weights(MODEL), GGMLType[type])
    same_as_llama_cpp(path, tmp_path, file_type)


@pytest.mark.parametrize(
    "overrides",
    [
        gguf.Overrides(pure=True),
        gguf.Overrides(leave_output_tensor=True, token_embedding_type="Q6_K"),
        gguf.Overrides(tensor_type=[("attn_v", "Q2_K"), ("blk.[12]", "Q5_1")]),
    ],
)
def test_overridden_files_equal_llama_cpps(
    overrides: gguf.Overrides, f32: Path, tmp_path: Path
) -> None:
    pytest.importorskip("llama_cpp")
    same_as_llama_cpp(f32, tmp_path, "q4_k_m", overrides=overrides)


@pytest.mark.slow
@pytest.mark.parametrize("weigh", [False, True])
@pytest.mark.parametrize(
    "file_type",
    [
        "q4_k_m",
        *(
            pytest.param(name, marks=pytest.mark.nightly)
            for name in ("q8_0", "q6_k", "q5_k_m", "q4_k_s", "q4_0", "q3_k_m", "q2_k")
        ),
    ],
)
def test_smollm2_equals_llama_cpps(
    file_type: str, weigh: bool, smollm2_f32: Path, tmp_path: Path
) -> None:
    pytest.importorskip("llama_cpp")
    imatrix = None
    if weigh:
        draws = np.random.default_rng(3)
        with gguf.open(smollm2_f32) as file:
            imatrix = {
                name: draws.exponential(1, info.shape[-1]).astype(np.float32)
                for name, info in file.tensors.items()
                if len(info.shape) > 1 and name.startswith("blk")
            }
    same_as_llama_cpp(smollm2_f32, tmp_path, file_type, imatrix=imatrix)


@pytest.fixture(scope="module")
def smollm2_f32(smollm2_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("smollm2") / "f32.gguf"
    gguf.quantize(smollm2_gguf, path, "f32")
    return path
