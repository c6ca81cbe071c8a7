"""The report and the model card say what was computed, and nothing else."""

import copy
import json
import re
import sys
from html.parser import HTMLParser
from typing import Any

import pytest
import yaml

from simplex_jax.report import model_card, report_html
from simplex_jax.report._plots import MISSING

HOSTILE = "</td><script>alert('1')</script><img src=\"https://x.example/a\" onerror=b>"
MINIMAL = {"status": "failed", "name": "x", "config": {}, "versions": {}}
VOID = {"meta", "img", "br", "link", "path", "use", "rect"}


def _bins(shift):
    edges = [k / 10 for k in range(11)]
    return [
        {"low": low, "high": high, "count": 0, "confidence": None, "accuracy": None}
        if low < 0.3
        else {
            "low": low,
            "high": high,
            "count": int(200 * low**2),
            "confidence": low + 0.05,
            "accuracy": max(0.0, low + 0.05 - shift),
        }
        for low, high in zip(edges, edges[1:], strict=False)
    ]


def _evaluation(accuracy, shift):
    return {
        "prompts": 420,
        "parsed": 418,
        "accuracy": accuracy,
        "accuracy_interval": [accuracy - 0.03, accuracy + 0.02],
        "score": accuracy,
        "templates": 24,
        "calibration": {
            "count": 418,
            "accuracy": accuracy,
            "mean_confidence": 0.88,
            "ece": shift,
            "mce": 2 * shift,
            "brier": 0.12,
            "bins": _bins(shift),
        },
    }


def _check(**changes):
    return {
        "prompt": "The capital of France is",
        "tokens": 5,
        "ids_equal": True,
        "max_logit_difference": 0.4321,
        "mean_kl_nats": 0.00123,
        "top1_agreement": 0.875,
        "greedy_tokens": 32,
        "first_difference": None,
        "gap_at_difference": None,
        "text": "Paris",
    } | changes


FULL: dict[str, Any] = {
    "format": 1,
    "status": "finished",
    "name": "sentiment_analysis",
    "specialist": "sentiment_analysis",
    "config": {
        "base": "smollm2-135m",
        "data_file": None,
        "lora": {"rank": 8, "alpha": 16.0},
        "training": {"max_steps": 120, "learning_rate": 1e-3},
    },
    "versions": {"python": "3.11.7", "jax": "0.10.2", "simplex_jax": "0.1.0"},
    "machine": {"cpu_count": 2, "device": "cpu"},
    "base": {
        "source": "smollm2-135m",
        "hub_name": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "parameters": 134515008,
        "trainable": 921600,
        "percent": 0.68,
    },
    "data": {
        "train": {"examples": 3000, "sha256": "ab" * 32},
        "heldout": {"examples": 420, "sha256": "cd" * 32},
        "loss_tokens": 24000,
        "too_long": [],
    },
    "training": {
        "steps": 120,
        "epochs": 1.9,
        "tokens": 61000,
        "loss_tokens": 24000,
        "seconds": 210.0,
        "tokens_per_second": 290.0,
        "skipped_steps": 0,
        "best_step": 120,
        "best_eval_loss": 0.12,
        "stopped_by": "max_steps",
    },
    "evaluation": {"before": _evaluation(0.31, 0.3), "after": _evaluation(0.95, 0.05)},
    "samples": [
        {
            "prompt": "Review by a verified buyer: a superb kettle.\nPositive?",
            "expected": "positive",
            "expected_confidence": 0.93,
            "before": "I would say it depends",
            "before_correct": False,
            "after": "positive (0.93)",
            "after_correct": True,
        }
    ],
    "verification": {
        "path": "/home/someone/runs/sentiment_analysis-q8_0.gguf",
        "file_type": "MOSTLY_Q8_0",
        "tolerance": None,
        "checks": [
            _check(),
            _check(first_difference=7, gap_at_difference=0.0123),
        ],
        "problems": [],
        "passed": True,
    },
    "parity": {
        "file": "sentiment_analysis-q4_k_m.gguf",
        "size_bytes": 105_000_000,
        "bits_per_weight": 6.171,
        "types": {"F32": 61, "Q5_0": 180},
        "file_type": "MOSTLY_Q4_K_M",
        "metadata": {},
        "token_ids": {"texts": 7, "differing": 0},
        "bos_tokens": 1,
        "template_equal": True,
        "tokens": 2048,
        "source": {"perplexity": 4.125},
        "here": {
            "perplexity": 4.25,
            "mean_kl_nats": 0.0312,
            "top1_agreement": 0.953,
        },
        "llama_cpp": {
            "perplexity": 4.375,
            "mean_kl_nats": 0.0335,
            "top1_agreement": 0.949,
            "differing_token_ids": 0,
            "bos_tokens": 1,
        },
    },
    "chat": {
        "prompt": "Review by the owner",
        "text": "positive (0.93)",
        "finish_reason": "stop",
        "completion_tokens": 7,
    },
    "files": {
        "sentiment_analysis-q8_0.gguf": {"bytes": 144811072, "sha256": "ef" * 32},
        "sentiment_analysis-q8_0.Modelfile": {"bytes": 612, "sha256": "12" * 32},
        "adapter/adapter_model.safetensors": {"bytes": 3693000, "sha256": "34" * 32},
    },
    "seconds": {"data": 3.0, "before": 80.0, "training": 210.0, "after": 70.0},
}
METRICS: list[dict] = [
    {
        "step": step,
        "loss": 3.2 * 0.965**step + 0.09,
        "learning_rate": 1e-3 * (1 - step / 130),
        "grad_norm": 0.5,
        "tokens": 512 * step,
        "tokens_per_second": 300.0,
        "seconds": 1.7 * step,
    }
    for step in range(2, 122, 2)
] + [
    {"step": step, "eval_loss": 3.2 * 0.965**step + 0.12, "eval_token_accuracy": 0.8}
    for step in (40, 80, 120)
]
FILE_RUN = {
    **FULL,
    "specialist": None,
    "evaluation": {
        "before": {"nll": 2.5, "token_accuracy": 0.4, "tokens": 500, "sequences": 40},
        "after": {"nll": 1.23, "token_accuracy": 0.7, "tokens": 500, "sequences": 40},
    },
}


class _Page(HTMLParser):
    """Collect tags and attributes, and check that elements nest."""

    def __init__(self, page):
        super().__init__()
        self.found, self.open, self.words = [], [], []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID - {"path", "use", "rect"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def _hostile(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _hostile(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_hostile(v) for v in value]
    return HOSTILE if isinstance(value, str) else value


def test_a_full_run_is_told_whole():
    page = report_html(FULL, METRICS)
    text = "".join(_Page(page).words)
    for said in [
        "accuracy on held-out data: 0.310 [0.280, 0.330] before, 0.950 [0.920, 0.970]",
        "llama.cpp agrees with JAX on 2 prompts",
        "Held-out data: 420 prompts from 24 templates. Intervals: 95 % bootstrap",
        "✓ positive (0.93)",
        "✗ I would say it depends",
        "positive (0.93)",
        "equal over 32 tokens",
        "parts at token 7 of 32, where the top two are 0.0123 apart",
        "0.4321",
        "0.00123",
        "61 F32, 180 Q5_0; 6.17 bits a weight; over 2048 tokens",
        "4.375",
        "0.0335",
        "Token ids differ in 0 of 7 texts here, in 0 in llama.cpp",
        "begins with 1 BOS; the chat template is the same.",
        "ef" * 32,
        "ab" * 32,
        "144811072",
        "lora.rank",
        "0.10.2",
        "363.0",
        "max_steps",
        "20 of 60 recorded steps",
    ]:
        assert said in text, said
    assert "Not computed" not in text and "Plots are missing" not in text
    assert page.count("<svg") == 3
    assert "/home/someone" not in page


def test_a_run_on_the_users_own_file():
    text = "".join(_Page(report_html(FILE_RUN, METRICS)).words)
    assert "token accuracy on held-out data: 0.400 before, 0.700 after" in text
    assert "Loss, nats per token" in text
    assert "500 tokens in 40 sequences" in text
    assert "Not computed: calibration before, calibration after." in text
    assert "templates" not in text


def test_a_minimal_run_says_what_is_missing():
    page = report_html(MINIMAL, [])
    text = "".join(_Page(page).words)
    for name in [
        "evaluation before, evaluation after",
        "calibration before, calibration after",
        "sample answers",
        "the comparison of the file with its source",
        "the comparison with llama.cpp",
        "a chat completion by llama.cpp",
        "loss curves",
        "train data, heldout data",
        "files",
        "timings",
        "the machine",
    ]:
        assert f"Not computed: {name}." in text, name
    assert "Status: failed; not evaluated; not compared with llama.cpp." in text
    assert "<svg" not in page
    nothing = {key: None for key in FULL if key not in MINIMAL} | MINIMAL
    assert report_html(nothing, []) == page
    assert model_card(nothing) == model_card(MINIMAL)


@pytest.mark.parametrize("key", [key for key in FULL if key not in MINIMAL])
def test_any_part_may_be_missing(key, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    manifest = {name: part for name, part in FULL.items() if name != key}
    _Page(report_html(manifest, METRICS))
    model_card(manifest)
    model_card({**FULL, key: None})


def test_one_side_alone_is_shown_alone():
    manifest = copy.deepcopy(FULL)
    manifest["evaluation"]["before"] = None
    page = report_html(manifest, METRICS)
    text = "".join(_Page(page).words)
    assert "not computed before, 0.950" in text
    assert "Not computed: evaluation before." in text
    assert "Not computed: calibration before." in text
    assert "| Accuracy | higher | not computed | 0.950" in model_card(manifest)


def test_missing_values_inside_a_part_are_named():
    manifest = copy.deepcopy(FULL)
    manifest["training"]["best_eval_loss"] = None
    manifest["chat"]["finish_reason"] = None
    manifest["parity"]["llama_cpp"] = None
    text = "".join(_Page(report_html(manifest, METRICS)).words)
    assert "Not computed: best held-out loss, nats per token." in text
    assert "Not computed: finish reason." in text
    assert "Not computed: the file in llama.cpp." in text


def test_a_failed_verification_shows_in_the_verdict():
    manifest = copy.deepcopy(FULL)
    manifest["verification"] |= {"passed": False, "problems": ["'x': ids differ"]}
    page = report_html(manifest, METRICS)
    assert "llama.cpp does not agree" in page
    assert '<p class="bad">&#x27;x&#x27;: ids differ</p>' in page
    assert "NOT within rounding" in model_card(manifest)


def test_hostile_texts_are_escaped():
    manifest = _hostile(FULL)
    manifest["config"][HOSTILE] = {HOSTILE: HOSTILE}
    manifest["files"] = {HOSTILE: {"bytes": 1, "sha256": HOSTILE}}
    manifest["samples"][0]["after"] = "\ud800 " + HOSTILE
    page = report_html(manifest, METRICS)
    tags = {tag for tag, _ in _Page(page).found}
    assert not tags & {"script", "img", "link", "iframe"}
    assert tags == {tag for tag, _ in _Page(report_html(FULL, METRICS)).found}
    assert "&lt;script&gt;" in page
    page.encode()
    assert "<script" not in model_card(manifest)


@pytest.mark.parametrize("manifest", [FULL, FILE_RUN, MINIMAL, _hostile(FULL)])
def test_nothing_is_loaded_from_outside(manifest):
    page = report_html(manifest, METRICS)
    for tag, attributes in _Page(page).found:
        for name in ("src", "href", "xlink:href", "action", "data", "srcset"):
            # Within a plot, ``use`` points at a marker of that plot.
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
    assert "@import" not in page
    assert all(url.startswith("#") for url in re.findall(r"url\(([^)]*)\)", page))


def test_every_reference_in_a_plot_has_its_target():
    found = _Page(report_html(FULL, METRICS)).found
    ids = {attributes["id"] for _, attributes in found if "id" in attributes}
    used = {a["xlink:href"][1:] for _, a in found if "xlink:href" in a}
    used |= {a["clip-path"][5:-1] for _, a in found if "clip-path" in a}
    assert used and used <= ids


def test_the_same_run_gives_the_same_bytes():
    again = json.loads(json.dumps(FULL))
    assert report_html(FULL, METRICS) == report_html(again, list(METRICS))
    assert model_card(FULL) == model_card(again)
    # A step that a resumed run records twice counts once, and the last time.
    doubled = [{"step": 2, "loss": 99.0}, *METRICS]
    assert report_html(FULL, doubled) == report_html(FULL, METRICS)


def test_without_matplotlib_there_are_tables(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    page = report_html(FULL, METRICS)
    text = "".join(_Page(page).words)
    assert MISSING == "Plots are missing: pip install 'simplex-jax[plots]'"
    assert MISSING in text
    assert "<svg" not in page
    assert "20 of 60 recorded steps" in text


@pytest.mark.parametrize(
    "metrics",
    [
        [{"step": 1, "loss": 0.5}],
        [{"step": 1, "eval_loss": 0.5}],
        [{"step": 1, "loss": float("nan")}, {"step": 2, "loss": float("inf")}],
        [{"step": 1, "loss": 0.0}, {"step": 2, "loss": 1.0}],
        [{"step": 1, "tokens_per_second": 3.0}],
    ],
)
def test_odd_metrics_do_not_break_the_page(metrics):
    _Page(report_html(MINIMAL, metrics))


def test_the_loss_table_keeps_evaluations(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    metrics = [{"step": step, "loss": 1.0} for step in range(500)]
    metrics += [{"step": step, "eval_loss": 0.123} for step in (7, 77, 333)]
    page = report_html(MINIMAL, metrics)
    assert "20 of 500 recorded steps" in page
    assert page.count("<td>0.123</td>") == 3
    assert "<td>499</td>" in page


def test_the_card_names_what_a_hub_needs():
    card = model_card(FULL)
    _, front, body = card.split("---\n", 2)
    head = yaml.safe_load(front)
    assert head["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert head["tags"] == ["gguf", "lora", "llama.cpp", "jax"]
    for said in [
        "ollama create sentiment_analysis -f sentiment_analysis-q8_0.Modelfile",
        "llama-cli -m sentiment_analysis-q8_0.gguf",
        "`adapter/`",
        "| Accuracy | higher | 0.310 [0.280, 0.330] | 0.950 [0.920, 0.970] |",
        "| Expected calibration error | lower | 0.300 | 0.050 |",
        "Training examples: 3000; held out: 420",
        "no template is on both sides",
        "- rank: 8",
        "- steps: 120",
        "synthetic",
        "2 prompts: token ids equal on 2, mean KL up to 0.0012 nats; within rounding",
        "ended with `stop`",
        "6.17 bits a weight moved the perplexity of held-out text from 4.125 to 4.250",
    ]:
        assert said in body, said


def test_the_card_names_no_local_path():
    manifest: dict[str, Any] = copy.deepcopy(FULL)
    manifest["specialist"] = None
    manifest["base"] |= {"source": "/home/someone/model.gguf", "hub_name": None}
    manifest["config"] |= {"data_file": "/home/someone/x.jsonl"}
    card = model_card(manifest)
    assert "/home" not in card and "base_model" not in card
    assert "split by the hash of the prompt" in card
    assert "synthetic" not in card
    assert "How to run\n\nNot computed: files." in model_card(MINIMAL)


def test_a_learned_rate_is_shown_from_start_to_end():
    rate = {
        "adaptations": 4,
        "seconds": 12.25,
        "share_of_training": 0.21,
        "start": {"decay_rate": 2.5},
        "end": {"decay_rate": 3.75},
    }
    words = "".join(_Page(report_html({**FULL, "learned_rate": rate}, METRICS)).words)
    for text in ("Learned learning rate", "4 adaptations", "2.5", "3.75"):
        assert text in words
    plain = "".join(_Page(report_html(FULL, METRICS)).words)
    assert "Learned learning rate" not in plain
