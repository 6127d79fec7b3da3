"""Which format a file has: its content decides where it is plain, else its name."""

import io
import zipfile
from collections.abc import Container
from pathlib import PurePath

_ZIPPED = {"word/": ".docx", "ppt/": ".pptx", "xl/": ".xlsx"}
_MIME = {b"application/epub+zip": ".epub", b"application/vnd.oasis.opendocument.text": ".odt"}
_MARKS = (
    (b"{\\rtf", ".rtf"),
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"\xff\xd8\xff", ".jpg"),
    (b"II*\x00", ".tif"),
    (b"MM\x00*", ".tif"),
)
_SAME = {
    ".docm": ".docx",
    ".pptm": ".pptx",
    ".xlsm": ".xlsx",
    ".jpeg": ".jpg",
    ".tiff": ".tif",
}


def find_suffix(name: str, data: bytes, *, known: Container[str]) -> tuple[str, str | None]:
    """Return the suffix of the format to read, and a problem line where the content is not what the name says."""
    suffix = PurePath(name).suffix.lower()
    content = _by_content(data)
    if content is not None and content != _SAME.get(suffix, suffix):
        said = f"is a {content[1:].upper()} file though its name ends in {suffix}" if suffix else None
        return content, said
    if suffix in known:
        return suffix, None
    if _is_page(data):
        return ".html", None
    if not suffix and _is_text(data):
        return ".txt", None
    return suffix, None


def _by_content(data: bytes) -> str | None:
    if data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"%PDF-"):
        return ".pdf"
    for mark, suffix in _MARKS:
        if data.startswith(mark):
            return suffix
    if data.startswith(b"PK\x03\x04"):
        return _by_entries(data)
    return None


def _by_entries(data: bytes) -> str | None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()[:2000]
            if names and names[0] == "mimetype" and archive.infolist()[0].file_size < 200:
                found = _MIME.get(archive.read("mimetype").strip())
                if found is not None:
                    return found
    except (zipfile.BadZipFile, OSError, RuntimeError, ValueError, EOFError, NotImplementedError):
        return None
    folders = {f"{name.partition('/')[0]}/" for name in names if "/" in name}
    return next((suffix for folder, suffix in _ZIPPED.items() if folder in folders), None)


def _is_page(data: bytes) -> bool:
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return head.startswith((b"<!doctype html", b"<html"))


def _is_text(data: bytes) -> bool:
    try:
        return b"\0" not in data and bool(data.decode("utf-8").strip())
    except UnicodeDecodeError:
        return False
