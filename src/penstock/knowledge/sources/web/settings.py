"""What a source of kind `web` can be told."""

import re
from typing import Literal

import msgspec

from penstock.knowledge.credentials import is_confidential, replace_secrets
from penstock.knowledge.sources.errors import InvalidSource
from penstock.knowledge.sources.settings import SourceSettings
from penstock.knowledge.sources.web.addresses import normalise_url
from penstock.knowledge.sources.web.guard import AddressGuard

_MARK = "\x00"
_WITH_SECRET = re.compile("(?:[A-Za-z]+ )?\x00|[A-Za-z0-9_.-]+=\x00(?:; ?[A-Za-z0-9_.-]+=\x00)*")
"""`Bearer SECRET`, `SECRET`, or cookies whose values are secrets."""


class WebSettings(SourceSettings, frozen=True, kw_only=True):
    """`location` is a page, or a sitemap (`…/sitemap.xml`). Pages in its folder and below are read."""

    also: list[str] = msgspec.field(default_factory=list)
    """More pages or sitemaps, whose folders are allowed too."""
    hosts: list[str] = msgspec.field(default_factory=list)
    """Further hosts that may be read whole, such as `docs.example.org`."""
    depth: int = 2
    """How many links away from `location`, `also` and the sitemap's pages; 0 reads these alone."""
    sitemap: bool = True
    """Also read the pages of the sitemaps that the host's robots.txt names, or of its /sitemap.xml."""
    robots: Literal["obey", "ignore"] = "obey"
    """`ignore` is for sites of one's own."""
    user_agent: str = "penstock"
    """Name under which robots.txt may speak of it."""
    pause_s: float = 0.2
    """Between two requests to a host; robots.txt may ask for more, up to a minute."""
    timeout_s: float = 20.0
    """For one page."""
    max_pages: int = 1000
    max_minutes: float = 60.0
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    """Sent to the host of `location` only, such as `authorization`; credentials as `{{secret:NAME}}`."""
    allow_private: list[str] = msgspec.field(default_factory=list)
    """Hosts as the addresses of pages name them, or networks, that may be read though they are private."""

    def check(self) -> None:
        """Also refuse what is no address of the web, and bounds that bound nothing."""
        super().check()
        for each in (self.location, *self.also):
            if normalise_url(each) is None:
                raise InvalidSource(
                    f"{each!r} is no address of a page.", hint="Such as https://example.org/docs/."
                )
            if "@" in each.partition("://")[2].partition("/")[0]:
                raise InvalidSource(
                    "A password stands in the address.",
                    hint="Send it as a header: --set 'headers={authorization = \"Bearer {{secret:docs}}\"}'.",
                )
        if self.depth < 0 or self.max_pages < 1 or self.pause_s < 0:
            raise InvalidSource("`depth` and `pause_s` must be at least 0, `max_pages` at least 1.")
        if not 0 < self.timeout_s <= 600 or not 0 < self.max_minutes <= 7 * 24 * 60:
            raise InvalidSource("`timeout_s` must be over 0 up to 600, `max_minutes` over 0 up to a week.")
        for name, value in {"user-agent": self.user_agent, **self.headers}.items():
            if not name or any(char in name + value for char in "\r\n\x00"):
                raise InvalidSource(f"The header {name!r} cannot be sent.")
            if is_confidential(name) and not _WITH_SECRET.fullmatch(replace_secrets(value, _MARK)):
                raise InvalidSource(
                    f"The header {name!r} holds plain text that nobody is to read.",
                    hint="Put it into the vault: penstock secret set NAME; then write "
                    f"--set 'headers={{{name} = \"Bearer {{{{secret:NAME}}}}\"}}'.",
                )
        AddressGuard(self.allow_private)
