"""Heads that attach to attention: who may read whom, and what is kept.

``Policy`` and ``Veto`` weigh which keys a query may read, ``Forget`` lets what is long
ago fade, ``DeltaMemory`` keeps what was written under a key; untrained, none of them
changes a model. ``Concepts`` and the functions below say what a model attended to.
They are Flax modules and functions of arrays, which ``models`` puts into its decoder.
"""

from ._concepts import Concepts as Concepts
from ._concepts import concept_loss as concept_loss
from ._delta import DeltaMemory as DeltaMemory
from ._delta import DeltaState as DeltaState
from ._delta import delta_rule as delta_rule
from ._forget import Forget as Forget
from ._last_real import last_real as last_real
from ._policy import Policy as Policy
from ._policy import Veto as Veto
from ._trace import importance as importance
from ._trace import normalised_entropy as normalised_entropy
from ._trace import received_attention as received_attention
from ._trace import roll_out as roll_out
