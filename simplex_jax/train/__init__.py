"""Train a model: loss, step and loop, with checkpoints, on one device or many.

``fit`` is the loop; ``make_step`` the pure step under it; ``nll`` the loss under that.
``text`` turns conversations and documents into what ``data.pack`` takes.
"""

from ._checkpoint import Checkpoints as Checkpoints
from ._config import TrainingConfig as TrainingConfig
from ._fit import Fit as Fit
from ._fit import LearnedRate as LearnedRate
from ._fit import fit as fit
from ._loss import nll as nll
from ._loss import token_accuracy as token_accuracy
from ._optimizer import learned_rate as learned_rate
from ._optimizer import learning_rate_schedule as learning_rate_schedule
from ._optimizer import make_optimizer as make_optimizer
from ._sharding import PARTITIONS as PARTITIONS
from ._sharding import make_mesh as make_mesh
from ._sharding import place as place
from ._sharding import place_batch as place_batch
from ._step import TrainState as TrainState
from ._step import init_state as init_state
from ._step import make_evaluation as make_evaluation
from ._step import make_step as make_step
from ._step import mean_over as mean_over
