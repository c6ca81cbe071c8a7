"""PEFT folders: the same numbers on both sides, and clear refusals."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import draws
from flax import nnx
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from lora_helpers import (
    ATTENTION,
    KINDS,
    MLP,
    adapted,
    assert_same,
    gap,
    layers_of,
    logits,
    make,
    make_square,
    tokens,
    torch_logits,
    torch_twin,
)
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from simplex_jax import lora

CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]},
    "ragged-rslora": {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": [*ATTENTION, *MLP],
        "rank_pattern": {r"layers\.0\.self_attn\.q_proj": 7, r"2\..*\.v_proj": 1},
        "alpha_pattern": {"v_proj": 3, r"model\.layers\.1\.mlp\.up_proj": 1.5},
        "use_rslora": True,
    },
    "partial": {
        "r": 3,
        "lora_alpha": 5,
        "target_modules": ["q_proj", "mlp.down_proj"],
        "layers_to_transform": [0, 2],
    },
    "all-linear": {
        "r": 2,
        "lora_alpha": 16,
        "target_modules": "all-linear",
        "exclude_modules": ["k_proj", "model.layers.1.mlp.up_proj"],
    },
    "regex": {
        "r": 2,
        "lora_alpha": 5,
        "target_modules": r".*layers\.[12]\.(mlp|self_attn)\.[a-z]*o[a-z]*_.*",
        # The first key that matches decides. PEFT sorts the keys when it saves.
        "rank_pattern": {"o_proj": 5, "w|.*proj": 3},
    },
}
# Every kind once with everything, the other configurations on one kind.
CASES = [(kind, "ragged-rslora") for kind in KINDS]
CASES += [("llama", name) for name in CONFIGS if name != "ragged-rslora"]
# float32 through three layers of two libraries.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def bases():
    return {kind: make(kind) for kind in KINDS}


@pytest.fixture(scope="module")
def square():
    return make_square()


def peft_of(base, name: str):
    """Return PEFT's model with random adapters, strong enough to matter."""
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(task_type="CAUSAL_LM", **CONFIGS[name])
    model = peft.get_peft_model(torch_twin(base), config).eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_" in key:
                draw = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(draw / parameter.shape[1] ** 0.5 * 0.3)
    return model


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "name"), CASES)
def test_our_adapter_in_peft(kind, name, bases, tmp_path):
    peft = pytest.importorskip("peft")
    base = bases[kind]
    model = adapted(base, lora.LoRAConfig(**CONFIGS[name]))
    folder = tmp_path / "adapter"
    lora.save_peft(model, folder, "a/base")
    theirs = peft.PeftModel.from_pretrained(torch_twin(base), str(folder)).eval()
    ours = logits(model, tokens())
    assert gap(ours, logits(base, tokens())) > 0.1
    assert gap(torch_logits(theirs, tokens()), ours) <= TOLERANCE
    expected = {
        key.removeprefix("base_model.model.").rpartition(".lora_A")[0]: value.shape[0]
        for key, value in theirs.named_parameters()
        if "lora_A" in key
    }
    assert lora.parameter_counts(model).ranks == expected
    again = lora.load_peft(base, folder)
    np.testing.assert_array_equal(logits(again, tokens()), ours)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "name"), CASES)
def test_pefts_adapter_here(kind, name, bases, tmp_path):
    base = bases[kind]
    theirs = peft_of(base, name)
    theirs.save_pretrained(tmp_path)
    model = lora.load_peft(base, tmp_path)
    ours = logits(model, tokens())
    assert gap(ours, logits(base, tokens())) > 0.1
    assert gap(torch_logits(theirs, tokens()), ours) <= TOLERANCE
    trainable, total = theirs.get_nb_trainable_parameters()
    counts = lora.parameter_counts(model)
    assert (counts.trainable, counts.total) == (trainable, total)
    fresh = lora.attach(base, lora.LoRAConfig(**CONFIGS[name]), key=jax.random.key(0))
    assert lora.parameter_counts(fresh) == counts
    lora.save_peft(model, tmp_path / "again")
    file = "adapter_model.safetensors"
    before, after = load_file(tmp_path / file), load_file(tmp_path / "again" / file)
    assert before.keys() == after.keys()
    for key, value in before.items():
        np.testing.assert_array_equal(after[key], value)


@pytest.mark.filterwarnings("ignore")
def test_presets_count_as_peft_does(bases):
    peft = pytest.importorskip("peft")
    for preset in ("simple", "standard", "complex", "code"):
        config = getattr(lora.LoRAConfig, preset)()
        model = lora.attach(bases["qwen2"], config, key=jax.random.key(0))
        theirs = peft.get_peft_model(
            torch_twin(bases["qwen2"]),
            peft.LoraConfig(
                task_type="CAUSAL_LM",
                r=config.r,
                lora_alpha=config.lora_alpha,
                target_modules=list(config.target_modules),
                use_rslora=config.use_rslora,
            ),
        )
        counts = lora.parameter_counts(model)
        expected = theirs.get_nb_trainable_parameters()
        assert (counts.trainable, counts.total) == expected
        assert counts.trainable_percent == 100 * expected[0] / expected[1]


def test_the_folder_has_the_exact_names(bases, tmp_path):
    model = adapted(bases["llama"], lora.LoRAConfig(**CONFIGS["partial"]))
    lora.save_peft(model, tmp_path / "new" / "adapter", "HuggingFaceTB/base")
    folder = tmp_path / "new" / "adapter"
    assert sorted(p.name for p in folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert [p.name for p in folder.parent.iterdir()] == ["adapter"]
    with safe_open(folder / "adapter_model.safetensors", framework="numpy") as file:
        assert file.metadata() == {"format": "pt"}
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}
    prefix = "base_model.model.model.layers"
    expected = {}
    for i in (0, 2):
        expected |= {
            f"{prefix}.{i}.self_attn.q_proj.lora_A.weight": (3, 32),
            f"{prefix}.{i}.self_attn.q_proj.lora_B.weight": (32, 3),
            f"{prefix}.{i}.mlp.down_proj.lora_A.weight": (3, 48),
            f"{prefix}.{i}.mlp.down_proj.lora_B.weight": (32, 3),
        }
    assert shapes == expected
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA" and config["task_type"] == "CAUSAL_LM"
    assert config["base_model_name_or_path"] == "HuggingFaceTB/base"
    assert config["bias"] == "none" and config["inference_mode"] is True
    assert config["r"] == 3 and config["layers_to_transform"] == [0, 2]


def test_regexes_are_written_as_names(bases, tmp_path):
    for number, (name, expected) in enumerate(
        {
            "all-linear": None,
            "regex": sorted(
                f"model.layers.{i}.{module}"
                for i in (1, 2)
                for module in ("mlp.down_proj", "self_attn.o_proj")
            ),
        }.items()
    ):
        model = adapted(bases["llama"], lora.LoRAConfig(**CONFIGS[name]))
        lora.save_peft(model, tmp_path / str(number))
        raw = json.loads((tmp_path / str(number) / "adapter_config.json").read_text())
        if expected is None:
            expected = sorted(lora.parameter_counts(model).ranks)
        assert raw["target_modules"] == expected
    model = adapted(bases["llama"], lora.LoRAConfig(target_modules="all-linear"))
    lora.save_peft(model, tmp_path / "all")
    raw = json.loads((tmp_path / "all" / "adapter_config.json").read_text())
    assert raw["target_modules"] == sorted([*ATTENTION, *MLP])


@draws(15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    r=st.integers(1, 3),
    alpha=st.floats(0.01, 100),
    rate=st.floats(0, 0.99),
    rslora=st.booleans(),
    targets=st.lists(
        st.sampled_from([*ATTENTION, *MLP, "lm_head"]), min_size=1, unique=True
    ),
    layers=st.sets(st.integers(0, 2), min_size=1),
    rank=st.integers(1, 3),
)
def test_save_and_load_is_the_identity(
    square, tmp_path, r, alpha, rate, rslora, targets, layers, rank
):
    everywhere = "lm_head" in targets
    config = lora.LoRAConfig(
        r=r,
        lora_alpha=alpha,
        lora_dropout=rate,
        target_modules=targets,
        layers_to_transform=None if everywhere else sorted(layers),
        rank_pattern={targets[0]: rank},
        alpha_pattern={rf"(.*\.)?{targets[-1]}": 3.5},
        use_rslora=rslora,
        init_lora_weights="gaussian" if rslora else True,
    )
    model = adapted(square, config)
    folder = tmp_path / "adapter"
    shutil.rmtree(folder, ignore_errors=True)
    lora.save_peft(model, folder)
    again = lora.load_peft(square, folder)
    assert_same(again, model)
    assert {n: layer.ranks for n, layer in layers_of(again).items()} == {
        n: layer.ranks for n, layer in layers_of(model).items()
    }
    assert all(layer.config == config for layer in layers_of(again).values())


def test_bfloat16_adapters_keep_their_dtype(bases, tmp_path):
    config = lora.LoRAConfig(**CONFIGS["ragged-rslora"])
    model = adapted(bases["llama"], config, param_dtype=jnp.bfloat16)
    lora.save_peft(model, tmp_path / "a")
    again = lora.load_peft(bases["llama"], tmp_path / "a", param_dtype=jnp.bfloat16)
    assert_same(again, model)
    wide = lora.load_peft(bases["llama"], tmp_path / "a")
    assert layers_of(wide)["q_proj"].lora_a.dtype == jnp.float32
    np.testing.assert_array_equal(
        layers_of(wide)["q_proj"].lora_b[...],
        layers_of(model)["q_proj"].lora_b[...].astype(jnp.float32),
    )


@pytest.fixture
def saved(bases, tmp_path) -> Path:
    model = adapted(bases["llama"], lora.LoRAConfig(**CONFIGS["plain"]))
    lora.save_peft(model, tmp_path / "saved")
    return tmp_path / "saved"


def change(folder: Path, **changes) -> None:
    path = folder / "adapter_config.json"
    raw = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(raw))


REFUSED: dict[str, Any] = {
    "peft_type": "IA3",
    "bias": "lora_only",
    "use_dora": True,
    "modules_to_save": ["lm_head"],
    "trainable_token_indices": [3, 4],
    "lora_bias": True,
    "target_parameters": ["experts"],
    "layer_replication": [[0, 2], [1, 3]],
    "init_lora_weights": "pissa_niter_4",
    "layers_pattern": "h",
    "use_qalora": True,
    "r": "8",
    "lora_alpha": None,
    "rank_pattern": ["q_proj"],
    "lora_dropout": 2,
    "target_modules": ["c_attn"],
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_computed_here_is_refused_by_name(name, bases, saved):
    change(saved, **{name: REFUSED[name]})
    with pytest.raises(ValueError, match=name):
        lora.load_peft(bases["llama"], saved)


def test_all_refusals_come_in_one_error(bases, saved):
    change(saved, bias="all", use_dora=True, modules_to_save=["lm_head"])
    file = saved / "adapter_model.safetensors"
    tensors = load_file(file)
    prefix = "base_model.model.model.layers"
    del tensors[f"{prefix}.1.self_attn.v_proj.lora_B.weight"]
    tensors[f"{prefix}.0.self_attn.q_proj.lora_magnitude_vector"] = np.ones(32, "f4")
    tensors[f"{prefix}.2.self_attn.q_proj.lora_A.weight"] = np.ones((5, 32), "f4")
    save_file(tensors, file)
    with pytest.raises(ValueError) as error:
        lora.load_peft(bases["llama"], saved)
    for part in (
        "bias='all'",
        "use_dora=True",
        "modules_to_save=['lm_head']",
        f"missing {prefix}.1.self_attn.v_proj.lora_B.weight (16, 4)",
        f"unexpected {prefix}.0.self_attn.q_proj.lora_magnitude_vector",
        f"{prefix}.2.self_attn.q_proj.lora_A.weight has shape (5, 32), expected",
    ):
        assert part in str(error.value)


def test_unknown_keys_are_ignored_with_a_warning(bases, saved):
    change(saved, peft_version="9.9", new_feature=None, other_feature="on")
    with pytest.warns(UserWarning, match="other_feature='on'"):
        lora.load_peft(bases["llama"], saved)


def test_a_folder_that_names_no_dropout_has_none(bases, saved):
    path = saved / "adapter_config.json"
    raw = json.loads(path.read_text())
    del raw["lora_dropout"]
    path.write_text(json.dumps(raw))
    found = layers_of(lora.load_peft(bases["llama"], saved))
    assert {layer.config.lora_dropout for layer in found.values()} == {0}


@pytest.mark.parametrize("content", ["{", "[1]", "\x00", "[" * 100000])
def test_malformed_configurations(content, bases, saved):
    (saved / "adapter_config.json").write_text(content)
    with pytest.raises(ValueError, match=r"adapter_config\.json"):
        lora.load_peft(bases["llama"], saved)


def test_missing_and_truncated_files(bases, saved, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"adapter_config\.json"):
        lora.load_peft(bases["llama"], tmp_path / "absent")
    file = saved / "adapter_model.safetensors"
    whole = file.read_bytes()
    for size in (0, 7, 100, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"adapter_model\.safetensors"):
            lora.load_peft(bases["llama"], saved)
    file.rename(saved / "adapter_model.bin")
    with pytest.raises(FileNotFoundError, match="pickle"):
        lora.load_peft(bases["llama"], saved)


def test_an_adapter_of_another_model_does_not_fit(bases, saved):
    small = make("llama", layers=2)
    with pytest.raises(ValueError, match=r"unexpected .*layers\.2\.self_attn"):
        lora.load_peft(small, saved)
    with pytest.raises(ValueError, match="adapters already"):
        lora.load_peft(lora.load_peft(bases["llama"], saved), saved)


def test_a_full_folder_is_not_touched(bases, saved):
    before = {p.name: p.read_bytes() for p in saved.iterdir()}
    model = lora.load_peft(bases["llama"], saved)
    with pytest.raises(FileExistsError, match="nothing was written"):
        lora.save_peft(model, saved)
    with pytest.raises(FileExistsError):
        lora.save_peft(model, saved / "adapter_config.json")
    assert {p.name: p.read_bytes() for p in saved.iterdir()} == before


def test_a_failed_write_leaves_nothing(bases, saved, tmp_path, monkeypatch):
    model = lora.load_peft(bases["llama"], saved)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("simplex_jax.lora._peft.save_file", full)
    with pytest.raises(OSError, match="No space"):
        lora.save_peft(model, tmp_path / "new")
    assert [p.name for p in tmp_path.iterdir()] == ["saved"]


def test_what_a_file_could_not_say_is_refused(bases, tmp_path):
    def fresh():
        return adapted(bases["llama"], lora.LoRAConfig(**CONFIGS["ragged-rslora"]))

    model = fresh()
    layer = layers_of(model)["v_proj"]
    layer.lora_b[...] = layer.lora_b[...].at[2, 3].set(1.0)
    with pytest.raises(ValueError, match=r"layers\.2\.self_attn\.v_proj.*rank 1"):
        lora.save_peft(model, tmp_path / "a")
    model = fresh()
    layer = layers_of(model)["v_proj"]
    layer.scale[...] = layer.scale[...] * 2
    with pytest.raises(ValueError, match="scale 3.0 is not the configuration's 1.5"):
        lora.save_peft(model, tmp_path / "a")
    model = fresh()
    layer = layers_of(model)["o_proj"]
    layer.lora_a[...] = layer.lora_a[...].at[1, 0, 0].set(jnp.nan)
    with pytest.raises(FloatingPointError, match=r"layers\.1\.self_attn\.o_proj"):
        lora.save_peft(model, tmp_path / "a")
    with pytest.raises(ValueError, match="no adapters"):
        lora.save_peft(bases["llama"], tmp_path / "a")
    graphdef, adapters, rest = nnx.split(fresh(), nnx.LoRAParam, ...)
    lora.save_peft(nnx.merge(graphdef, adapters, rest), tmp_path / "a")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_smollm2_with_adapters_equals_peft(smollm2, tmp_path):
    peft = pytest.importorskip("peft")
    base, _ = smollm2
    model = adapted(base, lora.LoRAConfig.complex(), strength=0.2)
    lora.save_peft(model, tmp_path / "a")
    folder = str(tmp_path / "a")
    theirs = peft.PeftModel.from_pretrained(torch_twin(base), folder).eval()
    batch = tokens(2, 32)
    ours = logits(model, batch)
    assert gap(ours, logits(base, batch)) > 0.1
    assert gap(torch_logits(theirs, batch), ours) <= 5e-4
