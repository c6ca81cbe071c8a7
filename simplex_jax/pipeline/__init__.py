"""One specialist or language model from end to end, in a folder.

A ``RunConfig`` says all that decides a run. ``run`` goes from data to a proven file
with a report, or goes on where a run was interrupted; ``evaluate`` judges one again.
"""

from ._config import LOCAL_TEST as LOCAL_TEST
from ._config import SMALL_MODEL as SMALL_MODEL
from ._config import DataConfig as DataConfig
from ._config import ExportConfig as ExportConfig
from ._config import RunConfig as RunConfig
from ._config import assignments as assignments
from ._config import load_yaml as load_yaml
from ._config import make_config as make_config
from ._run import Interrupted as Interrupted
from ._run import Listener as Listener
from ._run import evaluate as evaluate
from ._run import run as run
