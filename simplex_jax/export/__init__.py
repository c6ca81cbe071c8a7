"""A model as a file that runs elsewhere, and the proof that it does.

``export`` writes a GGUF file, a Modelfile and how near the file is to its source, which
is its ``parity``; ``verify`` runs the file here and in llama.cpp and compares;
``imatrix`` and ``quantize`` make it smaller, ``complete`` lets any source answer. A
source, which ``open_model`` loads, is a base model, a GGUF file, a Hugging Face folder
or the folder of a run.
"""

from ._complete import complete as complete
from ._export import Exported as Exported
from ._export import export as export
from ._export import inspect as inspect
from ._export import plan_quantization as plan_quantization
from ._export import quantize as quantize
from ._export import write_modelfile as write_modelfile
from ._imatrix import imatrix as imatrix
from ._llamacpp import LlamaCpp as LlamaCpp
from ._llamacpp import chat_completion as chat_completion
from ._parity import chat_rows as chat_rows
from ._parity import parity as parity
from ._parity import text_rows as text_rows
from ._source import open_model as open_model
from ._verify import PROMPTS as PROMPTS
from ._verify import PromptCheck as PromptCheck
from ._verify import Verification as Verification
from ._verify import verify as verify
