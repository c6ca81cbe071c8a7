"""Gates that train soft and run hard, logic that can be read.

Every gate takes its ``Mode`` as an argument and its temperature as an array, so that
schedules can drive both under ``jit``.
"""

from . import logic as logic
from ._attention import AttentionConfig as AttentionConfig
from ._attention import TemperatureAttention as TemperatureAttention
from ._attention import temperature_attention as temperature_attention
from ._circuit import LogicCircuit as LogicCircuit
from ._classifier import Classifier as Classifier
from ._committee import committee as committee
from ._controller import ControllerState as ControllerState
from ._controller import TemperatureController as TemperatureController
from ._gate import DualGate as DualGate
from ._gate import threshold_gate as threshold_gate
from ._gumbel import gumbel_sigmoid as gumbel_sigmoid
from ._gumbel import gumbel_softmax as gumbel_softmax
from ._learn import Accuracy as Accuracy
from ._learn import Learned as Learned
from ._learn import Record as Record
from ._learn import circuit_accuracy as circuit_accuracy
from ._learn import learn_circuit as learn_circuit
from ._mode import Mode as Mode
from ._positions import alibi_bias as alibi_bias
from ._positions import rotary as rotary
from ._positions import sinusoidal_positions as sinusoidal_positions
from ._program import Program as Program
from ._prune import prune as prune
from ._readout import Bits as Bits
from ._readout import GroupSum as GroupSum
from ._readout import Readout as Readout
from ._router import Router as Router
from ._router import Routing as Routing
from ._straight_through import straight_through as straight_through
from ._straight_through import straight_through_step as straight_through_step
