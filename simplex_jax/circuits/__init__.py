"""Circuits of logic gates: learned by gradients, then run as programs.

A ``LogicCircuit`` is trained soft by ``learn_circuit``; what it extracts is the hard
circuit as a ``Program``, which ``prune`` shortens, ``committee`` joins with others, and
which runs in NumPy, prints as a formula and writes itself as C. ``Bits`` and
``GroupSum`` say what outputs mean, and ``Classifier`` goes from bytes to classes.
"""

from ._circuit import LogicCircuit as LogicCircuit
from ._classifier import Classifier as Classifier
from ._committee import committee as committee
from ._learn import Accuracy as Accuracy
from ._learn import Learned as Learned
from ._learn import Record as Record
from ._learn import circuit_accuracy as circuit_accuracy
from ._learn import learn_circuit as learn_circuit
from ._program import Program as Program
from ._prune import prune as prune
from ._readout import Bits as Bits
from ._readout import GroupSum as GroupSum
from ._readout import Readout as Readout
