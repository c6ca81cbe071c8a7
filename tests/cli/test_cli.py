"""The command as a user types it, on a small random model with a real vocabulary."""

import json

import pytest

from simplex_jax import cli, gguf, models


@pytest.fixture(scope="module")
def source(tiny_llama, tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "tiny.gguf"
    model, tokenizer = tiny_llama
    models.save_gguf(model, tokenizer, path, "f32")
    return path


def run(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        cli.main([str(word) for word in words])
    printed = capsys.readouterr()
    return stop.value.code, printed.out, printed.err


def test_generate_prints_the_prompt_and_its_continuation(capsys, source):
    words = ("generate", source, "--prompt", "The capital", "--max-new-tokens", 9)
    status, out, _ = run(capsys, *words)
    model, tokenizer = models.load(source)
    ids = tokenizer.encode("The capital", add_special=True)
    expected = "".join(models.stream(model, tokenizer, ids, max_new_tokens=9))
    assert status == 0
    assert out == f"The capital{expected}\n"


def test_generate_is_repeatable_by_seed(capsys, source):
    def text(seed):
        words = ("generate", source, "--prompt", "a", "--temperature", 1.0)
        return run(capsys, *words, "--max-new-tokens", 8, "--seed", seed)[1]

    assert text(1) == text(1)
    assert text(1) != text(2)


def test_generate_chat_prints_only_the_answer(capsys, source):
    words = ("generate", source, "--chat", "--prompt", "Hello", "--system", "Be brief.")
    status, out, _ = run(capsys, *words, "--max-new-tokens", 4)
    assert status == 0
    assert "Hello" not in out
    assert "<|im_start|>" not in out


def test_export_writes_a_file_and_a_modelfile(capsys, source, tmp_path):
    out_file = tmp_path / "new" / "small.gguf"
    status, out, _ = run(capsys, "export", source, "--type", "q8_0", "--out", out_file)
    assert status == 0
    assert "q8_0" in out
    with gguf.open(out_file) as file:
        assert file.metadata["general.file_type"] == gguf.FILE_TYPES["q8_0"]
        assert file.metadata["general.name"] == "small"
    modelfile = (tmp_path / "new" / "small.Modelfile").read_text()
    assert modelfile.startswith("FROM ./small.gguf\n")
    assert 'PARAMETER stop "<|im_end|>"' in modelfile
    assert "PARAMETER num_ctx 128" in modelfile
    parity = json.loads((tmp_path / "new" / "small.parity.json").read_text())
    assert parity["file_type"] == "MOSTLY_Q8_0"
    for shown in ("perplexity", "same top token", "0 of 7 texts differ"):
        assert shown in out


def test_export_compares_on_a_text_that_is_given(capsys, source, tmp_path):
    text = tmp_path / "mine.txt"
    text.write_text("one two three four five six seven")
    words = ("export", source, "--out", tmp_path / "x.gguf", "--text", text)
    assert run(capsys, *words)[0] == 0
    parity = json.loads((tmp_path / "x.parity.json").read_text())
    _, tokenizer = models.load(source)
    assert parity["tokens"] == len(tokenizer.encode(text.read_text(), add_special=True))
    assert parity["file_type"] == "MOSTLY_Q4_K_M"


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "nothing to compare on"), (b"\xff", "not UTF-8")]
)
def test_export_refuses_a_text_before_it_writes(
    capsys, source, tmp_path, content, message
):
    text = tmp_path / "mine.txt"
    text.write_bytes(content)
    words = ("export", source, "--out", tmp_path / "x.gguf", "--text", text)
    status, _, error = run(capsys, *words)
    assert status == 2
    assert message in error and "mine.txt" in error
    assert list(tmp_path.iterdir()) == [text]


def test_imatrix_weighs_quantization(capsys, source, tmp_path):
    text, matrix = tmp_path / "mine.txt", tmp_path / "im.gguf"
    text.write_text("the quick brown fox jumps over the lazy dog. " * 40)
    words = ("imatrix", source, "--data", text, "--out", matrix, "--chunk-tokens", 64)
    status, out, _ = run(capsys, *words, "--max-chunks", 2)
    assert status == 0
    assert "14 tensors, 128 tokens" in out
    found = gguf.read_imatrix(matrix)
    assert found.datasets == ("mine.txt",)
    assert (found.tokens, found.chunks) == (128, 2)
    plain, weighed = tmp_path / "plain.gguf", tmp_path / "weighed.gguf"
    for path, more in ((plain, ()), (weighed, ("--imatrix", matrix))):
        words = ("quantize", source, path, "--type", "q4_0", *more)
        assert run(capsys, *words)[0] == 0
    with gguf.open(plain) as a, gguf.open(weighed) as b:
        assert b.metadata["quantize.imatrix.dataset"] == "mine.txt"
        changed = [
            name
            for name in a.tensors
            if a.tensors[name].raw().tobytes() != b.tensors[name].raw().tobytes()
        ]
    assert len(changed) == 14


def test_quantize_writes_what_the_library_does(capsys, source, tmp_path):
    out_file, expected = tmp_path / "small.gguf", tmp_path / "expected.gguf"
    words = ("--tensor-type", "attn_v=q8_0", r"blk\.(?=1)1\.ffn=q5_0")
    words += ("--token-embedding-type", "q4_1", "--type", "q4_k_s")
    status, out, _ = run(capsys, "quantize", source, out_file, *words)
    assert status == 0
    assert "q4_k_s" in out
    overrides = gguf.Overrides(
        tensor_type=[("attn_v", "Q8_0"), (r"blk\.1\.ffn", "Q5_0")],
        token_embedding_type="Q4_1",
    )
    gguf.quantize(source, expected, "q4_k_s", overrides=overrides)
    assert out_file.read_bytes() == expected.read_bytes()


def test_quantize_dry_run_shows_types_and_writes_nothing(capsys, source):
    before = sorted(source.parent.iterdir())
    status, out, _ = run(capsys, "quantize", source, "--dry-run", "--pure")
    assert status == 0
    plan = gguf.plan(source, overrides=gguf.Overrides(pure=True))
    for tensor in plan["tensors"]:
        (line,) = [line for line in out.splitlines() if tensor["name"] in line]
        assert line.split()[-2:] == [
            tensor["type_after"],
            f"{tensor['bytes_after']:,}",
        ]
    assert f"{plan['bits_per_weight']:.2f} bits a weight" in out
    assert sorted(source.parent.iterdir()) == before


def test_verify_prints_a_table_and_writes_json(capsys, source, tmp_path):
    pytest.importorskip("llama_cpp")
    report = tmp_path / "report.json"
    words = ("verify", source, "--greedy-tokens", 3, "--json", report)
    status, out, _ = run(capsys, *words)
    assert status == 0
    assert "verified" in out
    # Every column is there in full in a terminal of 80 characters.
    for shown in ("tokens", "max Δ", "KL, nats", "top 1", "100%", "3 of 3"):
        assert shown in out
    assert json.loads(report.read_text())["passed"] is True


def test_verify_fails_with_status_1(capsys, source, monkeypatch):
    pytest.importorskip("llama_cpp")
    monkeypatch.setattr(
        "simplex_jax.models._gguf.uninterleave", lambda rows, heads: rows
    )
    status, out, _ = run(capsys, "verify", source, "--greedy-tokens", 2)
    assert status == 1
    assert "not verified" in out


def test_inspect_shows_metadata_and_tensors(capsys, source):
    status, out, _ = run(capsys, "inspect", source)
    assert status == 0
    for expected in ("general.architecture", "blk.1.attn_q.weight", "F32"):
        assert expected in out
    status, out, _ = run(capsys, "inspect", source, "--json")
    summary = json.loads(out)
    assert summary["metadata"]["llama.block_count"] == 2
    assert {t["name"] for t in summary["tensors"]} >= {"token_embd.weight"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("generate", "nothing-here", "--prompt", "x"), "neither a file, nor a folder"),
        (("generate", "{source}", "--prompt", "x", "--top-p", 2), "top_p is 2.0; give"),
        (("generate", "{source}", "--prompt", "x", "--system", "y"), "needs chat"),
        (("generate", "{source}", "--prompt", "word " * 200), "context of 128"),
        (("export", "{source}", "--out", "x.gguf", "--type", "q9"), "file_type"),
        (("inspect", "absent.gguf"), "absent.gguf"),
        (("imatrix", "{source}", "--data", "absent.txt", "--out", "x"), "absent.txt"),
        (("imatrix", "{source}", "--data", "{source}", "--out", "x"), "not UTF-8"),
        (("quantize", "{source}", "x.gguf", "--imatrix", "{source}"), "'imatrix' in"),
        (("quantize", "absent.gguf", "x.gguf"), "absent.gguf"),
        (("quantize", "{source}"), "out is missing"),
        (("quantize", "{source}", "{source}"), "are one file"),
        (("quantize", "{source}", "x.gguf", "--type", "q4"), "file_type is 'q4'"),
        (("quantize", "{source}", "--dry-run", "--tensor-type", "a"), "is 'a'; give"),
        (("quantize", "{source}", "--dry-run", "--tensor-type", "a=b"), "type is 'b'"),
    ],
)
def test_bad_words_give_one_line_and_status_2(capsys, source, words, message):
    status, out, err = run(capsys, *(str(w).format(source=source) for w in words))
    assert status == 2
    assert err.strip().startswith("simplex-jax: error: ")
    assert message in err
    assert "Traceback" not in err


def test_a_truncated_file_is_refused(capsys, source, tmp_path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(source.read_bytes()[:100_000])
    for words in (("inspect", broken), ("generate", broken, "--prompt", "x")):
        status, _, err = run(capsys, *words)
        assert status == 2
        assert "broken.gguf" in err


def test_a_model_without_a_template_refuses_chat(capsys, source, tmp_path):
    import dataclasses

    model, tokenizer = models.load(source)
    path = tmp_path / "plain.gguf"
    models.save_gguf(
        model, dataclasses.replace(tokenizer, chat_template=None), path, "f32"
    )
    status, _, err = run(capsys, "generate", path, "--chat", "--prompt", "x")
    assert status == 2
    assert "chat_template" in err
    status, out, _ = run(capsys, "export", path, "--out", tmp_path / "again.gguf")
    assert status == 0
    assert "no Modelfile" in out
