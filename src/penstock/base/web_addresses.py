"""Addresses that documents give for themselves, of which only those may become links that lead to a page."""

import re

_WEB = re.compile(r"https?://[^\s/?#<>\"'`\\]+(?:[/?#][^\s<>\"`\\]*)?", re.IGNORECASE)
MAX_CHARS = 2000


def web_address(text: str | None) -> str | None:
    """Return an address that a browser opens as a page, blanks within it encoded; None for any other.

    `javascript:`, `data:` and the like would run in the page that shows them as a link.
    """
    told = (text or "").strip(" ").replace(" ", "%20")
    return told if len(told) <= MAX_CHARS and told.isprintable() and _WEB.fullmatch(told) else None
