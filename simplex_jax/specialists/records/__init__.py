"""Records of fields, read from several noisy copies and their arithmetic."""

from ._documents import DOCUMENT_EXTRACTION as DOCUMENT_EXTRACTION
