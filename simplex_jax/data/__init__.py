"""Draw, verify, split, store and pack training examples.

``generate`` draws examples of a ``CATALOG`` entry, ``verify`` judges a model's
answer by the prompt alone; ``read_jsonl`` and ``split_by_hash`` serve the
user's own data, ``read_documents`` and ``split_documents`` plain text;
``pack`` turns token sequences into batches of fixed shape.
"""

from ._catalog import CATALOG as CATALOG
from ._catalog import CatalogEntry as CatalogEntry
from ._catalog import entry as entry
from ._catalog import generate as generate
from ._catalog import verify as verify
from ._example import Example as Example
from ._example import Turn as Turn
from ._example import deduplicate as deduplicate
from ._example import prompt_hash as prompt_hash
from ._jsonl import read_jsonl as read_jsonl
from ._jsonl import write_jsonl as write_jsonl
from ._packing import PackedBatches as PackedBatches
from ._packing import PackingReport as PackingReport
from ._packing import pack as pack
from ._plain_text import Document as Document
from ._plain_text import distinct_documents as distinct_documents
from ._plain_text import read_documents as read_documents
from ._posterior import Solution as Solution
from ._protocols import Generator as Generator
from ._protocols import Split as Split
from ._protocols import Verification as Verification
from ._protocols import Verifier as Verifier
from ._splits import split_by_hash as split_by_hash
from ._splits import split_documents as split_documents
from ._template import Template as Template
