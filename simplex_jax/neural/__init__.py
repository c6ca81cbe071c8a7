"""Parts of networks that train soft and run hard.

Gates, routers, Gumbel samples, attention with a temperature, and ``logic``, whose
operations can be read. Every gate takes its ``Mode`` as an argument and its temperature
as an array, so that schedules can drive both under ``jit``.
"""

from . import logic as logic
from ._attention import AttentionConfig as AttentionConfig
from ._attention import TemperatureAttention as TemperatureAttention
from ._attention import temperature_attention as temperature_attention
from ._controller import ControllerState as ControllerState
from ._controller import TemperatureController as TemperatureController
from ._gate import DualGate as DualGate
from ._gate import threshold_gate as threshold_gate
from ._gumbel import gumbel_sigmoid as gumbel_sigmoid
from ._gumbel import gumbel_softmax as gumbel_softmax
from ._mode import Mode as Mode
from ._positions import alibi_bias as alibi_bias
from ._positions import rotary as rotary
from ._positions import sinusoidal_positions as sinusoidal_positions
from ._router import Router as Router
from ._router import Routing as Routing
from ._straight_through import straight_through as straight_through
from ._straight_through import straight_through_step as straight_through_step
