"""Addresses of pages in one form, and which of them a source may follow. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit

MAX_URL_CHARS = 2000
MAX_PATH_PARTS = 40
_PORTS = {"http": 80, "https": 443}
_UNRESERVED = re.compile("%(?:2[DdEe]|3[0-9]|4[1-9A-Fa-f]|5[0-9AaFf]|6[1-9A-Fa-f]|7[0-9AaEe])")
"""Letters, digits and `-._~` in the longer way of writing them: they mean the same (RFC 3986, 6.2.2.2)."""
_SAFE = "/:@!$&'()*+,;=~-._%"
_SUFFIXES = {
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "text/markdown": ".md",
    "text/x-markdown": ".md",
    "text/plain": ".txt",
    "text/csv": ".csv",
    "application/pdf": ".pdf",
    "application/json": ".json",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": ".pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
}


def normalise_url(url: str, base: str | None = None) -> str | None:
    """Return an address in one form, without fragment, user and usual port; None for what is none of the web."""
    try:
        joined = urljoin(base, url.strip()) if base else url.strip()
        parts = urlsplit(joined)
        host, port = (parts.hostname or "").rstrip("."), parts.port
        host = host.encode("idna").decode() if not host.isascii() else host
    except (ValueError, UnicodeError):
        return None
    if parts.scheme not in _PORTS or not host or len(joined) > MAX_URL_CHARS:
        return None
    shown = f"[{host}]" if ":" in host else host
    where = shown if port in {None, _PORTS[parts.scheme]} else f"{shown}:{port}"
    path = _resolve_dots(
        quote(_UNRESERVED.sub(lambda match: unquote(match[0]), parts.path) or "/", safe=_SAFE)
    )
    if path.count("/") > MAX_PATH_PARTS:
        return None
    return urlunsplit((parts.scheme, where, path, quote(parts.query, safe=_SAFE + "?[]"), ""))


def _resolve_dots(path: str) -> str:
    kept: list[str] = []
    parts = path.split("/")
    for part in parts:
        if part == "..":
            del kept[-1:]
        elif part != ".":
            kept.append(part)
    if parts[-1] in {".", ".."}:
        kept.append("")
    return "/" + "/".join(kept).lstrip("/")


def origin(url: str) -> str:
    """Return scheme, host and port."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Where a source may go."""

    starts: tuple[str, ...]
    """Prefixes of addresses, such as `https://example.org/docs/`."""
    hosts: tuple[str, ...] = ()
    """Further hosts that are allowed whole, such as `docs.example.org` or `127.0.0.1:8080`."""

    def allows(self, url: str) -> bool:
        """Return whether a normalised address lies inside."""
        return any(url.startswith(start) for start in self.starts) or urlsplit(url).netloc in self.hosts


def make_scope(urls: Sequence[str], hosts: Sequence[str]) -> Scope:
    """Return the scope of a source: the folder of each of its addresses, and the named hosts."""
    return Scope(starts=tuple(dict.fromkeys(_folder_of(url) for url in urls)), hosts=tuple(hosts))


def _folder_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path.rpartition('/')[0]}/"


def path_of(url: str, media_type: str | None) -> str:
    """Return the path of a page as a document: host, path, query, and a suffix that tells its format."""
    parts = urlsplit(url)
    path = unquote(parts.path, errors="replace")
    if ".." in path.split("/"):  # an encoded slash made it: a document's path never leads up
        path = parts.path
    if path.endswith("/"):
        path += "index"
    if parts.query:
        path += "?" + unquote(parts.query, errors="replace")
    wanted = _SUFFIXES.get(media_type or "", "")
    suffix = PurePosixPath(parts.path).suffix.lower()
    is_same = (
        suffix == wanted or {suffix, wanted} <= {".html", ".htm"} or (wanted == ".txt" and suffix in _TEXTS)
    )
    if wanted and (parts.query or not is_same):
        path += wanted
    return parts.netloc + path


_TEXTS = frozenset({".md", ".markdown", ".csv", ".tsv", ".json", ".jsonl", ".txt"})
"""Served as plain text by many a host."""
