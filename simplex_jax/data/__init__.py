"""Examples and plain text: read, split and packed.

An ``Example`` is a conversation whose answers are learned. ``read_jsonl`` and
``read_documents`` read the user's own, ``split_by_hash`` and ``split_documents`` keep
training and held-out data apart; ``pack`` turns token sequences into batches of fixed
shape. Nothing here knows of any specialist.
"""

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
from ._splits import split_by_hash as split_by_hash
from ._splits import split_documents as split_documents
