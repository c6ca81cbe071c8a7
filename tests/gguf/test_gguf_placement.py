"""Types by name and shape, and the summary of a file."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import gguf as gguf_py
import numpy as np
import pytest
from gguf_models import MODELS, Model, llama_quantize, types_in, write_hollow

from simplex_jax import gguf
from simplex_jax.gguf import GGMLType, TensorSource

# What llama.cpp gives to five models without an importance matrix. Columns: file type,
# token_embd, output (- where tied), attn_q, attn_k, ffn_gate and ffn_up, then
# attn_output, attn_v and ffn_down, one letter a layer where they differ.
LETTERS = {
    "f": "F32",
    "h": "F16",
    "g": "BF16",
    "a": "Q4_0",
    "b": "Q4_1",
    "c": "Q5_0",
    "d": "Q5_1",
    "2": "Q2_K",
    "3": "Q3_K",
    "4": "Q4_K",
    "5": "Q5_K",
    "6": "Q6_K",
    "8": "Q8_0",
}
TABLE = """
# qwen2.5-0.5b
f32 f - f f f f
f16 h - h h h h
bf16 g - g g g g
q8_0 8 - 8 8 8 8
q6_k 8 - 8 8 8 6
q5_k_m 8 - d d 888dd8dd8dd8dd8dd8dd8888 666556556556556556556666
q5_k_s 8 - d d d 5
q4_k_m 8 - c c 888cc8cc8cc8cc8cc8cc8888 666446446446446446446666
q4_k_s 8 - c c ddddcccccccccccccccccccc 555444444444444444444444
q3_k_l 8 - a d d 5
q3_k_m 8 - a c ddcccccccccccccccccccccc 544444444444444444444444
q3_k_s 8 - a a a 3
q2_k 8 - a a c 3
q5_0 8 - c c c c
q5_1 8 - d d d d
q4_0 8 - a a a a
q4_1 8 - b b b b
# qwen3-0.6b
f32 f - f f f f
f16 h - h h h h
bf16 g - g g g g
q8_0 8 - 8 8 8 8
q6_k 6 - 6 6 6 6
q5_k_m 6 - 5 5 6665565565565565565565566666 6665565565565565565565566666
q5_k_s 6 - 5 5 5 5
q4_k_m 6 - 4 4 6664464464464464464464466666 6664464464464464464464466666
q4_k_s 6 - 4 4 5555444444444444444444444444 5554444444444444444444444444
q3_k_l 6 - 3 5 5 5
q3_k_m 6 - 3 4 5544444444444444444444444444 5444444444444444444444444444
q3_k_s 6 - 3 3 3 3
q2_k 6 - 2 3 3 3
q5_0 6 - c c c c
q5_1 6 - d d d d
q4_0 6 - a a a a
q4_1 6 - b b b b
# qwen3-8b
f32 f f f f f f
f16 h h h h h h
bf16 g g g g g g
q8_0 8 8 8 8 8 8
q6_k 6 6 6 6 6 6
q5_k_m 5 6 5 5 666655655655655655655655655655666666 666655655655655655655655655655666666
q5_k_s 5 6 5 5 5 5
q4_k_m 4 6 4 4 666644644644644644644644644644666666 666644644644644644644644644644666666
q4_k_s 4 6 4 4 555544444444444444444444444444444444 555544444444444444444444444444444444
q3_k_l 3 6 3 5 5 5
q3_k_m 3 6 3 4 554444444444444444444444444444444444 554444444444444444444444444444444444
q3_k_s 3 6 3 3 3 3
q2_k 2 6 2 3 4 3
q5_0 c 6 c c c c
q5_1 d 6 d d d d
q4_0 a 6 a a a a
q4_1 b 6 b b b b
# llama-3.2-1b
f32 f - f f f f
f16 h - h h h h
bf16 g - g g g g
q8_0 8 - 8 8 8 8
q6_k 6 - 6 6 6 6
q5_k_m 6 - 5 5 6655655655655666 6655655655655666
q5_k_s 6 - 5 5 5 5
q4_k_m 6 - 4 4 6644644644644666 6644644644644666
q4_k_s 6 - 4 4 5555444444444444 5544444444444444
q3_k_l 6 - 3 5 5 5
q3_k_m 6 - 3 4 5544444444444444 5444444444444444
q3_k_s 6 - 3 3 3 3
q2_k 6 - 2 3 4 3
q5_0 6 - c c c c
q5_1 6 - d d d d
q4_0 6 - a a a a
q4_1 6 - b b b b
# llama-3-8b
f32 f f f f f f
f16 h h h h h h
bf16 g g g g g g
q8_0 8 8 8 8 8 8
q6_k 6 6 6 6 6 6
q5_k_m 5 6 5 5 66665565565565565565565565566666 66665565565565565565565565566666
q5_k_s 5 6 5 5 5 5
q4_k_m 4 6 4 4 66664464464464464464464464466666 66664464464464464464464464466666
q4_k_s 4 6 4 4 55554444444444444444444444444444 55554444444444444444444444444444
q3_k_l 3 6 3 5 5 5
q3_k_m 3 6 3 4 55444444444444444444444444444444 55444444444444444444444444444444
q3_k_s 3 6 3 3 3 3
q2_k 2 6 2 3 4 3
q5_0 c 6 c c c c
q5_1 d 6 d d d d
q4_0 a 6 a a a a
q4_1 b 6 b b b b
"""
ROWS = [
    (name, row.split())
    for name, rows in re.findall(r"# (\S+)\n([^#]+)", TABLE)
    for row in rows.splitlines()
]


@pytest.mark.parametrize(
    ("name", "row"), ROWS, ids=[f"{name}-{row[0]}" for name, row in ROWS]
)
def test_types_of_known_models(name: str, row: list[str]) -> None:
    model = MODELS[name]
    file_type, embedding, output, rest, attn_output, attn_v, ffn_down = row
    expected = {"token_embd.weight": embedding, "output.weight": output}
    columns = dict.fromkeys(("attn_q", "attn_k", "ffn_gate", "ffn_up"), rest)
    columns |= {"attn_output": attn_output, "attn_v": attn_v, "ffn_down": ffn_down}
    for part, letters in columns.items():
        for layer in range(model.layers):
            expected[f"blk.{layer}.{part}.weight"] = letters[layer % len(letters)]
    types = gguf.tensor_types(model.shapes(), file_type, model.metadata())
    assert {name: type.name for name, type in types.items()} == {
        name: LETTERS[letter] for name, letter in expected.items() if letter != "-"
    }


def test_the_table_has_every_model_and_file_type() -> None:
    for name in MODELS:
        rows = [row[0] for other, row in ROWS if other == name]
        assert rows == list(gguf.FILE_TYPES)


SMALL = Model("llama", 16, 256, 512, 8, 4, 32, 300, False)


def changed(
    model: Model,
    file_type: str,
    *,
    imatrix: bool = False,
    overrides: gguf.Overrides | None = None,
) -> dict[str, str]:
    """Return the types that differ from those of the plain file."""
    arguments = (model.shapes(), file_type, model.metadata())
    plain = gguf.tensor_types(*arguments)
    types = gguf.tensor_types(*arguments, imatrix=imatrix, overrides=overrides)
    return {
        name: types[name].name if name in types else "kept"
        for name in plain
        if types.get(name) != plain[name]
    }


@pytest.mark.parametrize(("file_type", "type"), [("q4_0", "Q4_1"), ("q5_0", "Q5_1")])
def test_an_imatrix_moves_the_first_eighth_of_ffn_down(
    file_type: str, type: str
) -> None:
    expected = {f"blk.{i}.ffn_down.weight": type for i in range(2)}
    assert changed(SMALL, file_type, imatrix=True) == expected


@pytest.mark.parametrize("file_type", ["q4_k_m", "q8_0", "q4_1"])
def test_an_imatrix_moves_nothing_else(file_type: str) -> None:
    assert changed(SMALL, file_type, imatrix=True) == {}


@pytest.mark.parametrize(
    ("architecture", "kv_heads", "expected"),
    [("llama", 4, "Q5_K"), ("llama", 8, "Q4_K"), ("qwen2", 8, "Q5_K")],
)
def test_seventy_billion_parameters_keep_better_values(
    architecture: str, kv_heads: int, expected: str
) -> None:
    model = dataclasses.replace(
        SMALL, architecture=architecture, layers=80, kv_heads=kv_heads
    )
    types = gguf.tensor_types(model.shapes(), "q3_k_m", model.metadata())
    assert types["blk.0.attn_v.weight"].name == "Q5_K"
    assert types["blk.40.attn_v.weight"].name == expected


def test_overrides() -> None:
    def moved(**wishes: Any) -> dict[str, str]:
        return changed(SMALL, "q4_k_m", overrides=gguf.Overrides(**wishes))

    assert moved(leave_output_tensor=True) == {"output.weight": "kept"}
    assert moved(output_tensor_type="q8_0") == {"output.weight": "Q8_0"}
    assert moved(token_embedding_type=GGMLType.F32) == {"token_embd.weight": "F32"}
    pure = moved(pure=True)
    assert set(pure.values()) == {"Q4_K"}
    assert {name.split(".")[-2] for name in pure} == {"output", "attn_v", "ffn_down"}
    # The first that is found decides, and searches, it need not match.
    first = moved(tensor_type=[("attn_k", "Q8_0"), ("attn_k|attn_q", "Q5_0")])
    expected = {f"blk.{i}.attn_k.weight": "Q8_0" for i in range(16)}
    assert first == expected | {f"blk.{i}.attn_q.weight": "Q5_0" for i in range(16)}


def test_tensors_with_an_override_are_not_counted() -> None:
    wishes = gguf.Overrides(tensor_type=[(r"blk\.0\.attn_v", "Q8_0")])
    # Layer 4 now is the fourth of the first four.
    expected = {"blk.0.attn_v.weight": "Q8_0", "blk.4.attn_v.weight": "Q5_K"}
    assert changed(SMALL, "q4_k_s", overrides=wishes) == expected


def test_overrides_of_a_tied_head() -> None:
    tied = dataclasses.replace(SMALL, tied=True)

    def embedding(**wishes: Any) -> str | None:
        wanted = gguf.Overrides(**wishes)
        return changed(tied, "q4_k_m", overrides=wanted).get("token_embd.weight")

    assert embedding(output_tensor_type="F32") == "F32"
    assert embedding(output_tensor_type="Q8_0", token_embedding_type="Q5_K") == "Q5_K"
    assert embedding(output_tensor_type="Q8_0", tensor_type=[("embd", "F16")]) == "F16"
    assert embedding(leave_output_tensor=True) is None


def test_files_of_floats_heed_only_the_two_ends() -> None:
    wishes = gguf.Overrides(
        tensor_type=[("attn_v", "Q8_0")],
        output_tensor_type="Q6_K",
        token_embedding_type="Q8_0",
    )
    expected = {"output.weight": "Q6_K", "token_embd.weight": "Q8_0"}
    assert changed(SMALL, "bf16", overrides=wishes) == expected


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"output_tensor_type": "Q9"}, "output_tensor_type: type is 'Q9'"),
        ({"token_embedding_type": "IQ4_NL"}, "token_embedding_type: IQ4_NL cannot"),
        ({"tensor_type": [("attn_v", "I8")]}, "tensor_type 'attn_v': I8 cannot"),
        ({"tensor_type": [("attn_(", "F16")]}, r"'attn_\(' is no regular expression"),
    ],
)
def test_impossible_overrides(wishes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gguf.Overrides(**wishes)


@pytest.mark.parametrize(
    ("name", "shape", "q4_k_s", "q8_0"),
    [
        ("blk.9.attn_q.weight", (64, 256), "Q4_K", "Q8_0"),
        ("blk.9.attn_q.weight", (64, 96), "Q5_0", "Q8_0"),
        ("blk.9.attn_q.weight", (64, 100), "F16", "F16"),
        ("blk.9.attn_q.weight", (1, 256), None, None),
        ("blk.9.attn_q.bias", (2, 256), None, None),
        ("blk.9.attn_norm.weight", (256,), None, None),
        ("blk.9.attn_q_norm.weight", (2, 256), None, None),
        ("blk.9.ffn_gate_inp.weight", (8, 256), None, None),
        ("rope_freqs.weight", (32,), None, None),
        ("output.weight", (64, 100), "F16", "F16"),
        ("output.weight", (64, 96), "Q8_0", "Q8_0"),
    ],
)
def test_single_tensors(
    name: str, shape: tuple[int, ...], q4_k_s: str | None, q8_0: str | None
) -> None:
    shapes = SMALL.shapes() | {name: shape}
    for file_type, expected in (("q4_k_s", q4_k_s), ("q8_0", q8_0)):
        types = gguf.tensor_types(shapes, file_type, SMALL.metadata())
        assert (types[name].name if name in types else None) == expected


def test_unknown_file_type_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'q5'.*f32, f16.*q4_k_m.*q4_1"):
        gguf.tensor_types(SMALL.shapes(), "q5", SMALL.metadata())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"general.architecture": "falcon"}, "is 'falcon'; .* known for llama"),
        ({"general.architecture": None}, "is None"),
        ({"llama.block_count": None}, "llama.block_count is missing"),
        ({"llama.block_count": "16"}, "llama.block_count is missing or not a whole"),
        ({"llama.expert_count": np.uint32(8)}, "expert_count is 8"),
    ],
)
def test_models_without_a_table(change: dict[str, Any], message: str) -> None:
    found = SMALL.metadata() | change
    found = {key: value for key, value in found.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        gguf.tensor_types(SMALL.shapes(), "q4_k_m", found)


HOLLOW = MODELS | {
    "small": SMALL,
    "smollm2-135m": Model("llama", 30, 576, 1536, 9, 3, 64, 49152, True),
    "two layers": Model("llama", 2, 96, 160, 4, 2, 24, 320, False),
    "llama-3-70b": Model("llama", 80, 8192, 28672, 64, 8, 128, 128256, False),
    "llama-65b": Model("llama", 80, 8192, 22016, 64, 64, 128, 32000, False),
    "qwen2.5-72b": Model("qwen2", 80, 8192, 29568, 64, 8, 128, 152064, False),
}
QUICK = ("small", "two layers", "llama-3.2-1b")
# The rule that a model of 80 layers has to itself, and the model that is shipped.
SLOW = ("llama-3-70b", "smollm2-135m")
WISHES = {
    "nothing": gguf.Overrides(),
    "pure": gguf.Overrides(pure=True),
    "leave": gguf.Overrides(leave_output_tensor=True),
    "ends": gguf.Overrides(output_tensor_type="Q8_0", token_embedding_type="F16"),
    "head": gguf.Overrides(output_tensor_type="Q5_K"),
    "pure head": gguf.Overrides(pure=True, output_tensor_type="Q5_K"),
    "some": gguf.Overrides(
        tensor_type=[(r"blk\.[0-3]\.attn_v", "Q6_K"), ("attn_v|down", "Q3_K")]
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        *QUICK,
        *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW),
        *(
            pytest.param(name, marks=pytest.mark.nightly)
            for name in HOLLOW
            if name not in QUICK + SLOW
        ),
    ],
)
def test_llama_cpp_chooses_the_same(name: str, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    model, path = HOLLOW[name], tmp_path / "hollow.gguf"
    shapes, metadata = model.shapes(), model.metadata()
    write_hollow(path, model)
    names = [name for name in shapes if name.endswith("attn_v.weight")]
    importance = {n: np.ones(shapes[n][-1], np.float32) for n in names}
    for file_type in gguf.FILE_TYPES:
        for wish, overrides in WISHES.items():
            for imatrix in (None, importance):
                log = llama_quantize(
                    path,
                    tmp_path / "none.gguf",
                    file_type,
                    imatrix=imatrix,
                    overrides=overrides,
                    dry_run=True,
                )
                stored = {n: "F16" if len(s) > 1 else "F32" for n, s in shapes.items()}
                chosen = gguf.tensor_types(
                    shapes,
                    file_type,
                    metadata,
                    imatrix=imatrix is not None,
                    overrides=overrides,
                )
                ours = stored | {n: type.name for n, type in chosen.items()}
                theirs = {n: type.name for n, type in types_in(log).items()}
                assert ours == theirs, (file_type, wish, imatrix is not None)
                assert gguf.file_order(shapes) == list(theirs)


def test_file_types_and_sizes_are_llama_cpps() -> None:
    assert {name: int(value) for name, value in gguf.FILE_TYPES.items()} == {
        "f32": 0,
        "f16": 1,
        "bf16": 32,
        "q8_0": 7,
        "q6_k": 18,
        "q5_k_m": 17,
        "q5_k_s": 16,
        "q4_k_m": 15,
        "q4_k_s": 14,
        "q3_k_l": 13,
        "q3_k_m": 12,
        "q3_k_s": 11,
        "q2_k": 10,
        "q5_0": 8,
        "q5_1": 9,
        "q4_0": 2,
        "q4_1": 3,
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
