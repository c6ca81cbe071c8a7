"""The direction of imports: a package imports only what its line names."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "simplex_jax"
EVERYWHERE = {"_typing", "_checks", "_files"}
ALLOWED = {
    "anneal": set(),
    "data": set(),
    "dual": set(),
    "evals": set(),
    "gguf": set(),
    "governance": set(),
    "lora": set(),
    "neural": set(),
    "report": set(),
    "circuits": {"neural"},
    "schedules": {"anneal"},
    "specialists": {"data"},
    "text": {"data"},
    "models": {"gguf", "governance", "text"},
    "export": {"data", "gguf", "lora", "models", "report", "text"},
    "train": {"data", "models", "schedules"},
    "pipeline": {
        "data",
        "evals",
        "export",
        "gguf",
        "lora",
        "models",
        "report",
        "specialists",
        "text",
        "train",
    },
    "cli": {"export", "pipeline"},
}
PACKAGES = sorted(p.name for p in ROOT.iterdir() if (p / "__init__.py").exists())


def imported_packages(path: Path) -> set[str]:
    """Return the first-level names of simplex_jax that a file imports anywhere."""
    inside = ("simplex_jax", *path.relative_to(ROOT).with_suffix("").parts)
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            targets = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(inside[: -node.level]) if node.level else []
            base += node.module.split(".") if node.module else []
            targets = [[*base, alias.name] for alias in node.names]
        else:
            continue
        found |= {t[1] for t in targets if t[0] == "simplex_jax" and len(t) > 1}
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_its_line_names(package):
    allowed = ALLOWED[package] | EVERYWHERE | {package}
    for path in sorted((ROOT / package).rglob("*.py")):
        assert imported_packages(path) <= allowed, path


def test_every_arrow_is_used_and_every_room_has_a_line():
    assert set(ALLOWED) == set(PACKAGES)
    for package, allowed in ALLOWED.items():
        files = (ROOT / package).rglob("*.py")
        assert allowed <= set().union(*map(imported_packages, files)), package


def test_the_scan_sees_every_form_of_import(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    file = tmp_path / "gguf" / "_x.py"
    file.parent.mkdir()
    file.write_text(
        "from .. import models\nfrom ..text import Tokenizer\n"
        "import simplex_jax.lora\ndef f():\n    from simplex_jax import train\n"
    )
    assert imported_packages(file) == {"models", "text", "lora", "train"}


@pytest.mark.parametrize("package", ["data", "evals", "gguf", "specialists"])
def test_numpy_packages_do_not_load_jax(package):
    code = f"import sys, simplex_jax.{package}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


HEAVY = ["torch", "transformers", "orbax", "matplotlib", "llama_cpp"]


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import simplex_jax", [*HEAVY, "jax", "flax", "numpy"]),
        ("from simplex_jax import models, pipeline, cli", HEAVY),
    ],
)
def test_imports_stay_light(statement, absent):
    code = f"{statement}; import sys; print([m for m in {absent} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
