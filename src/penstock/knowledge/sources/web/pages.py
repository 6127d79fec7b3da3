"""What a page says to robots: its links, and whether it may be kept or followed. Runs nothing of the page."""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

from penstock.knowledge.sources.web.addresses import normalise_url

MAX_LINKS = 5000
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
    try:
        reader.feed(_decode(data, charset))
        reader.close()
    except (AssertionError, RecursionError):  # html.parser on broken declarations
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
        except (LookupError, UnicodeDecodeError):
            continue
    return data.decode("latin-1")


class _Reader(HTMLParser):
    def __init__(self, url: str) -> None:
        super().__init__(convert_charrefs=True)
        self.page = Page()
        self._base = url

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
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

    def obey(self, wishes: str) -> None:
        """Take up `noindex`, `nofollow`, `none`."""
        words = {word.strip().lower() for word in wishes.split(",")}
        self.page.may_index &= not words & {"noindex", "none"}
        self.page.may_follow &= not words & {"nofollow", "none"}
