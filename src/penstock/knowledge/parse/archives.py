"""Zip archives that office files are: every bound is checked before a byte is inflated, and again while.

The surprise: an entry's declared size is what its maker says. Reading stops at the declared size, so that
an entry that lies is an error and not a full memory.
"""

import functools
import io
import zipfile
import zlib
from types import TracebackType
from typing import Any, Self

from penstock.knowledge.errors import DocumentTooLarge, LockedDocument, UnreadableDocument

MAX_UNPACKED_BYTES = 256 * 1024 * 1024
MAX_RATIO = 200
"""Real documents compress up to about 30 : 1; zip bombs start at 1,000 : 1."""
MAX_ENTRIES = 20_000
OLE_MARK = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""Old Office files, and new ones that a password locks."""
_LOCKED = 0x1
"""Bit of a zip entry's flags (APPNOTE.TXT 4.4.4)."""
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    SyntaxError,  # lxml's errors, too
    LookupError,  # parts that are referred to and not there
    ValueError,
    TypeError,
    AttributeError,
    RuntimeError,  # zipfile's: locked entries, and ways to compress that it does not know
    EOFError,
    OSError,
)
"""What zipfile, lxml and readers on them raise on a damaged file: they document none of it."""


class Archive:
    """An office file, opened within bounds. Raises `UnreadableDocument` in words of `kind`."""

    def __init__(self, data: bytes, *, kind: str, suffix: str) -> None:
        if data[:8] == OLE_MARK:
            raise LockedDocument(
                f"the file is locked by a password or is an old {suffix[:-1]}.",
                hint=f"Save an unlocked copy as {suffix}.",
            )
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except DAMAGE as error:
            raise UnreadableDocument(f"the file is not a {kind}.", hint=f"Save it as {suffix}.") from error
        entries = self._zip.infolist()
        if any(entry.flag_bits & _LOCKED for entry in entries):
            raise LockedDocument("the file is locked by a password.", hint="Save an unlocked copy.")
        unpacked = sum(entry.file_size for entry in entries)
        if unpacked > MAX_UNPACKED_BYTES or unpacked > MAX_RATIO * max(len(data), 1024):
            raise DocumentTooLarge(
                f"the file would unpack to {unpacked:,} bytes.", hint="It looks like a zip bomb."
            )
        if len(entries) > MAX_ENTRIES:
            raise DocumentTooLarge(
                f"the file has {len(entries):,} parts; the limit is {MAX_ENTRIES:,}.",
                hint="It looks like a zip bomb.",
            )
        self.names = [entry.filename for entry in entries]

    def has(self, name: str) -> bool:
        """Return whether there is such a part."""
        return name in self._zip.NameToInfo

    def read(self, name: str) -> bytes:
        """Return a part's bytes, never more than it declared; raise one of `DAMAGE` when it is broken."""
        with self._zip.open(name) as part:
            limit = self._zip.getinfo(name).file_size
            data = part.read(limit + 1)
        if len(data) > limit:
            raise zipfile.BadZipFile(f"{name} is longer than it says")
        return data

    def xml(self, name: str) -> Any:
        """Return a part's root element."""
        return read_xml(self.read(name))

    def close(self) -> None:
        """Free the archive."""
        self._zip.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_xml(data: bytes) -> Any:
    """Return the root element. No entities are expanded, nothing is fetched, no tree is deeper than 256."""
    from lxml import etree

    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True
    )
    root = etree.fromstring(data, parser)
    if root.getroottree().docinfo.internalDTD is not None:
        raise ValueError("a document type is declared, which no office program writes")
    return root


def name_of(element: Any) -> str:
    """Return an element's name without its namespace."""
    return _local(element.tag)


@functools.lru_cache(maxsize=4096)
def _local(tag: Any) -> str:
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def attribute(element: Any, name: str) -> str | None:
    """Return an attribute by its name without namespace."""
    found = element.get(name)
    if found is not None:
        return str(found)
    for key, value in element.attrib.items():
        if key[0] == "{" and key.rpartition("}")[2] == name:
            return str(value)
    return None
