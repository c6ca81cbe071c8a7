"""What a run leaves for people: its manifest, an HTML page and a model card.

The manifest is the one JSON file that says what decided a run and what came out;
``report_html`` and ``model_card`` make everything they show of it.
"""

from ._card import model_card as model_card
from ._manifest import read_manifest as read_manifest
from ._manifest import write_manifest as write_manifest
from ._report import report_html as report_html
