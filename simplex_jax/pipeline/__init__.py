"""From a model to a file that is proven to run elsewhere."""

from ._complete import complete as complete
from ._export import export as export
from ._export import inspect as inspect
from ._llamacpp import LlamaCpp as LlamaCpp
from ._verify import PROMPTS as PROMPTS
from ._verify import PromptCheck as PromptCheck
from ._verify import Verification as Verification
from ._verify import verify as verify
