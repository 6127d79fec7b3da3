"""Sitemaps as sitemaps.org describes them: lists of pages, indexes of lists, packed or not. Read in a stream, bounded."""

import io
from dataclasses import dataclass, field

from lxml import etree

from penstock.knowledge.sources.web.fetch import unpack

MAX_SITEMAP_BYTES = 50 * 1024 * 1024
"""As large as one may be by the protocol, unpacked."""
MAX_ENTRIES = 50_000


@dataclass(frozen=True, kw_only=True)
class Sitemap:
    """What a sitemap names."""

    pages: list[str] = field(default_factory=list)
    sitemaps: list[str] = field(default_factory=list)
    problem: str | None = None
    """Why it was not read to its end."""


def read_sitemap(data: bytes) -> Sitemap:
    """Return the addresses in a sitemap, in an index of sitemaps, or in a plain list of lines."""
    if data[:2] == b"\x1f\x8b":
        try:
            data, is_cut = unpack(data, MAX_SITEMAP_BYTES)
        except ValueError as error:
            return Sitemap(problem=str(error))
        if is_cut:
            return Sitemap(problem=f"it unpacks to more than {MAX_SITEMAP_BYTES:,} bytes")
    if not data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        lines = data.decode("utf-8", "replace").splitlines()
        return Sitemap(
            pages=[line.strip() for line in lines if line.strip().startswith(("http://", "https://"))]
        )
    return _read_xml(data)


def _read_xml(data: bytes) -> Sitemap:
    pages: list[str] = []
    sitemaps: list[str] = []
    problem: str | None = None
    try:
        events = etree.iterparse(
            io.BytesIO(data),
            events=("end",),
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            huge_tree=False,
            remove_comments=True,
            remove_pis=True,
        )
        for _, element in events:
            name = etree.QName(element).localname
            if name == "loc":
                parent = element.getparent()
                kind = etree.QName(parent).localname if parent is not None else ""
                text = (element.text or "").strip()
                if text and kind in {"url", "sitemap"}:
                    (pages if kind == "url" else sitemaps).append(text)
            elif name in {"url", "sitemap"}:
                element.clear()
                while element.getprevious() is not None:
                    del element.getparent()[0]
            if len(pages) + len(sitemaps) > MAX_ENTRIES:
                problem = f"it has more than {MAX_ENTRIES:,} entries"
                break
    except (etree.XMLSyntaxError, ValueError) as error:
        problem = f"it is no whole XML: {str(error).splitlines()[0]}"
    return Sitemap(pages=pages[:MAX_ENTRIES], sitemaps=sitemaps[:MAX_ENTRIES], problem=problem)
