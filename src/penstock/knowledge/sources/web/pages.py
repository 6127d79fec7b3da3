"""What a page says to robots: its links, and whether it may be kept or followed. Runs nothing of the page.

Read by libxml2, whose time grows with the length of a page alone, whatever its author made of it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from lxml import etree

from penstock.knowledge.sources.web.addresses import normalise_url

MAX_LINKS = 5000
MAX_PAGE_BYTES = 4 * 1024 * 1024
"""Links behind so much of a page are not followed."""
_HIGH = bytes(range(0x80, 0x100))
_CHARSET = re.compile(rb"charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]{1,40})", re.IGNORECASE)


@dataclass(kw_only=True)
class Page:
    """What was found in a page's head and links."""

    links: list[str] = field(default_factory=list)
    may_index: bool = True
    may_follow: bool = True


def read_page(url: str, data: bytes, charset: str | None, robots_header: str = "") -> Page:
    """Return links (normalised, each once) and the page's wishes, from its markup and the header `x-robots-tag`."""
    reader = _Reader(url)
    reader.obey(robots_header)
    if len(data) > MAX_PAGE_BYTES:
        data = data[:MAX_PAGE_BYTES].rstrip(_HIGH)  # no part of a character at its end
    text = _decode(data, charset).encode("utf-8", "replace").replace(b"\x00", b" ")
    parser = etree.HTMLParser(target=reader, encoding="utf-8", no_network=True, huge_tree=False)
    try:
        parser.feed(text)
        parser.close()
    except (etree.LxmlError, SyntaxError, ValueError, AssertionError):  # what was read until there counts
        pass
    page = reader.page
    page.links = list(dict.fromkeys(page.links)) if page.may_follow else []
    return page


def _decode(data: bytes, charset: str | None) -> str:
    named = _CHARSET.search(data[:4096])
    for name in (charset, named[1].decode() if named else None, "utf-8"):
        if name is None:
            continue
        try:
            return data.decode(name)
        except (LookupError, ValueError):  # some codecs raise no UnicodeError
            continue
    return data.decode("latin-1")


class _Reader:
    """Is told of tags, as lxml tells them."""

    def __init__(self, url: str) -> None:
        self.page = Page()
        self._base = url

    def start(self, tag: str, attrs: Mapping[str, str]) -> None:
        """Take up a tag that says something to robots."""
        found = dict(attrs)
        if tag == "base" and found.get("href"):
            self._base = normalise_url(found["href"], self._base) or self._base
        elif tag == "meta" and found.get("name", "").lower() in {"robots", "penstock"}:
            self.obey(found.get("content", ""))
        elif tag in {"a", "area"} and "href" in found and len(self.page.links) < MAX_LINKS:
            if "nofollow" in found.get("rel", "").lower().split():
                return
            link = normalise_url(found["href"], self._base)
            if link is not None:
                self.page.links.append(link)

    def close(self) -> None:
        """Nothing is left to do."""

    def obey(self, wishes: str) -> None:
        """Take up `noindex`, `nofollow`, `none`."""
        words = {word.strip().lower() for word in wishes.split(",")}
        self.page.may_index &= not words & {"noindex", "none"}
        self.page.may_follow &= not words & {"nofollow", "none"}
