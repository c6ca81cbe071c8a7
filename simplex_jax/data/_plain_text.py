"""Documents of plain text, one a file."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ENDINGS = (".txt", ".md")


@dataclass(frozen=True)
class Document:
    """A text and where it came from.

    Attributes:
        name: the file's path below its folder, with ``/``.
        text: not blank; line ends are single line feeds.
    """

    name: str
    text: str

    @property
    def sha256(self) -> str:
        """Hash of the text alone, 64 hexadecimal digits."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def size_bytes(self) -> int:
        """Length of the text in UTF-8."""
        return len(self.text.encode())


def read_documents(folder: str | os.PathLike[str]) -> list[Document]:
    """Read every ``.txt`` and ``.md`` file below a folder as one document.

    Hidden files and folders are passed over, and blank files.

    Args:
        folder: may have folders of its own.

    Returns:
        The documents by name; at least one.

    Raises:
        ValueError: naming the file that is not UTF-8 or not text, or the folder that
            holds no documents.
        FileNotFoundError: where there is no such folder.
        OSError: where a file cannot be read.
    """
    root = Path(folder)
    if root.is_file():
        raise ValueError(
            f"{root} is a file; give a folder of {' and '.join(ENDINGS)} files, one a "
            "document"
        )
    if not root.is_dir():
        raise FileNotFoundError(
            f"{root} is not there; give a folder of {' and '.join(ENDINGS)} files"
        )
    names = sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.suffix.lower() in ENDINGS and path.is_file()
    )
    shown = (n for n in names if not any(p.startswith(".") for p in n.split("/")))
    documents = [Document(name, _text(root / name)) for name in shown]
    documents = [document for document in documents if document.text.strip()]
    if not documents:
        raise ValueError(
            f"{root} holds no text; put {' or '.join(ENDINGS)} files there, one a "
            "document"
        )
    return documents


def distinct_documents(documents: Iterable[Document]) -> list[Document]:
    """Keep the first of each text.

    Args:
        documents: in order.

    Returns:
        The documents whose text did not occur before, in order.
    """
    first: dict[str, Document] = {}
    for document in documents:
        first.setdefault(document.text, document)
    return list(first.values())


def _text(path: Path) -> str:
    content = path.read_bytes()
    if b"\0" in content:
        raise ValueError(
            f"{path} holds NUL bytes, so it is no text in UTF-8; remove it, or rename "
            f"it to end otherwise than in {' or '.join(ENDINGS)}"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 from byte {error.start} on; convert it, as with "
            "iconv -t utf-8"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
