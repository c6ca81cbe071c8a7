"""The suite's ground rules: strict ranks, full matmul precision, typed arrays."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Eight host devices, so that code which places arrays is exercised everywhere.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)

from jaxtyping import install_import_hook

# Shapes and dtypes in annotations are checked at every call in the tests.
install_import_hook("simplex_jax", "beartype.beartype")

import jax
import programs
import pytest
import seconds

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")

_borrowed = pytest.StashKey[Path]()


def pytest_sessionstart(session):
    config = session.config
    # Where there are workers, the process that hands out the tests compiles nothing.
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return
    folder = config.stash[_borrowed] = programs.borrow()
    for name, value in programs.options(folder).items():
        jax.config.update(name, value)


def pytest_addoption(parser):
    words = "write the seconds of each package's tests to this file"
    parser.addoption("--seconds", type=Path, help=words)


def pytest_terminal_summary(terminalreporter, config):
    if path := config.getoption("seconds"):
        stats = terminalreporter.stats.values()
        reports = [x for each in stats for x in each if hasattr(x, "duration")]
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(seconds.by_package(reports)))


def pytest_sessionfinish(session):
    if folder := session.config.stash.get(_borrowed, None):
        programs.share(folder)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module", autouse=True)
def own_programs(request):
    """Compile a file's programs as it asks, and forget them at its end.

    Linux lets a process map 65,530 pieces of memory, and every program takes some: with
    those of all files, the one that is too many ends the process.
    """
    given = jax.config.read("jax_disable_most_optimizations")
    if request.node.get_closest_marker("optimized"):
        jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", given)
    jax.clear_caches()


@pytest.fixture
def child_programs(request):
    """The environment in which a process of its own finds compiled programs.

    What it writes goes nowhere: it may be killed while it does so.
    """
    folder = programs.borrow(request.config.stash[_borrowed])
    yield {name.upper(): str(v) for name, v in programs.options(folder).items()}
    shutil.rmtree(folder)


@pytest.fixture
def run_python(child_programs, tmp_path):
    """A function that runs Python in the test's folder, as a stranger would.

    It takes Python's words, requires that all goes well and returns what was printed.
    """

    def run(*words):
        done = subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path,
            env={**os.environ, **child_programs, "MPLBACKEND": "agg"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        # It has ended by itself, so that nothing is half written.
        programs.share(Path(child_programs["JAX_COMPILATION_CACHE_DIR"]))
        return done.stdout

    return run


@pytest.fixture(scope="session")
def smollm2_gguf():
    """Path of SmolLM2-135M-Instruct's GGUF file, fetched once into the cache."""
    from simplex_jax import models

    try:
        return models.fetch("smollm2-135m")
    except ConnectionError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"the weights cannot be fetched here: {error}")


@pytest.fixture(scope="session")
def smollm2(smollm2_gguf):
    """SmolLM2-135M-Instruct in float32, and its tokenizer."""
    from simplex_jax import models

    return models.load(smollm2_gguf)


@pytest.fixture(scope="session")
def tiny_llama(smollm2_gguf):
    """A small random Llama with SmolLM2's vocabulary, and its tokenizer."""
    import tiny

    from simplex_jax import gguf
    from simplex_jax.text import Tokenizer

    with gguf.open(smollm2_gguf) as file:
        tokenizer = Tokenizer.from_gguf(file.metadata)
    config = tiny.config(
        vocab_size=tokenizer.vocab_size,
        hidden_size=64,
        intermediate_size=128,
        max_position_embeddings=128,
    )
    # Weights of 0.02 would leave every logit near 0 and hide any mistake.
    model = jax.tree.map(lambda x: x * 5 if x.ndim > 1 else x, tiny.untrained(config))
    return model, tokenizer
