"""From a base model and examples to a specialist that is proven to run elsewhere."""

from ._complete import complete as complete
from ._config import LOCAL_TEST as LOCAL_TEST
from ._config import SMALL_MODEL as SMALL_MODEL
from ._config import DataConfig as DataConfig
from ._config import ExportConfig as ExportConfig
from ._config import RunConfig as RunConfig
from ._config import assignments as assignments
from ._config import load_yaml as load_yaml
from ._config import make_config as make_config
from ._export import Exported as Exported
from ._export import export as export
from ._export import inspect as inspect
from ._export import plan_quantization as plan_quantization
from ._export import quantize as quantize
from ._imatrix import imatrix as imatrix
from ._llamacpp import LlamaCpp as LlamaCpp
from ._parity import parity as parity
from ._run import Interrupted as Interrupted
from ._run import Listener as Listener
from ._run import evaluate as evaluate
from ._run import run as run
from ._verify import PROMPTS as PROMPTS
from ._verify import PromptCheck as PromptCheck
from ._verify import Verification as Verification
from ._verify import verify as verify
