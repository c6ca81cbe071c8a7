"""Low-rank adapters on a frozen model: attach, merge, PEFT folders in and out."""

from ._attach import ParameterCounts as ParameterCounts
from ._attach import attach as attach
from ._attach import detach as detach
from ._attach import parameter_counts as parameter_counts
from ._config import LoRAConfig as LoRAConfig
from ._layer import LoRALinear as LoRALinear
from ._merge import merge as merge
from ._merge import unmerge as unmerge
from ._peft import load_peft as load_peft
from ._peft import save_peft as save_peft
