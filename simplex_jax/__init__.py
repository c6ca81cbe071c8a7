"""Train small specialists in JAX and run them in llama.cpp or Ollama.

Subpackages load on first access, so that ``import simplex_jax`` stays cheap.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import anneal as anneal
    from . import circuits as circuits
    from . import data as data
    from . import dual as dual
    from . import evals as evals
    from . import export as export
    from . import gguf as gguf
    from . import governance as governance
    from . import lora as lora
    from . import models as models
    from . import neural as neural
    from . import pipeline as pipeline
    from . import report as report
    from . import schedules as schedules
    from . import specialists as specialists
    from . import text as text
    from . import train as train

__version__ = "0.1.0"

_SUBPACKAGES = (
    "anneal",
    "circuits",
    "data",
    "dual",
    "evals",
    "export",
    "gguf",
    "governance",
    "lora",
    "models",
    "neural",
    "pipeline",
    "report",
    "schedules",
    "specialists",
    "text",
    "train",
)


def __getattr__(name: str):
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*_SUBPACKAGES, "__version__"]
