"""What a small model can be trained for: examples drawn, answers judged.

A specialist hides a truth, shows it through a noisy channel, and knows exactly how
probable each answer is. ``generate`` draws examples of a ``CATALOG`` entry, ``verify``
judges a model's answer by the prompt alone. Families share a folder: ``cues`` (classes
told by words and sources), ``records`` (noisy copies of fields), ``programs`` (a closed
set of programs).
"""

from ._catalog import CATALOG as CATALOG
from ._catalog import entry as entry
from ._catalog import generate as generate
from ._catalog import verify as verify
from ._entry import CatalogEntry as CatalogEntry
from ._posterior import Solution as Solution
from ._protocols import Generator as Generator
from ._protocols import Split as Split
from ._protocols import Verification as Verification
from ._protocols import Verifier as Verifier
from ._template import Template as Template
