"""Curves that a model is trained by, and that learn through its updates.

Each schedule is a pytree of a few numbers that is called with a step: learning rate,
distillation, sparsity, bits, curriculum, or several of them in ``LearnedSchedules``.
``held_out_loss`` takes K Optax updates by a schedule and judges the result, and
``meta_train`` descends it; ``save`` and ``load`` keep schedules in JSON files.
"""

from ._bundle import LearnedSchedules as LearnedSchedules
from ._bundle import ScheduleValues as ScheduleValues
from ._curriculum import LearnableCurriculum as LearnableCurriculum
from ._distillation import Distillation as Distillation
from ._distillation import LearnableDistillation as LearnableDistillation
from ._learning_rate import learn_learning_rate as learn_learning_rate
from ._learning_rate import unrolled_loss as unrolled_loss
from ._lr import LearnableLR as LearnableLR
from ._meta_train import MetaTrained as MetaTrained
from ._meta_train import held_out_loss as held_out_loss
from ._meta_train import meta_train as meta_train
from ._meta_train import refuse_rough as refuse_rough
from ._meta_train import take_updates as take_updates
from ._piecewise_lr import PiecewiseLR as PiecewiseLR
from ._ramps import LearnableBits as LearnableBits
from ._ramps import LearnableSparsity as LearnableSparsity
from ._save import load as load
from ._save import save as save
