"""What a site asks of robots (RFC 9309), remembered for one scan.

No file (4xx) allows everything. A file that cannot be had (5xx, no answer) forbids everything, as the RFC says; the
scan is incomplete then.
"""

from collections.abc import Sequence

from protego import Protego

from penstock.base.errors import PenstockError
from penstock.knowledge.sources.errors import ItemUnavailable
from penstock.knowledge.sources.web.addresses import normalise_url, origin
from penstock.knowledge.sources.web.fetch import Fetcher

MAX_ROBOTS_BYTES = 500 * 1024
"""As much as the RFC asks to read at least."""
MAX_REDIRECTS = 5
MAX_PAUSE_S = 60.0


class RobotRules:
    """The rules of every host that a scan meets."""

    def __init__(self, fetcher: Fetcher, *, user_agent: str, pause_s: float, is_obeyed: bool) -> None:
        self._fetcher = fetcher
        self._user_agent = user_agent
        self._pause_s = pause_s
        self._is_obeyed = is_obeyed
        self._rules: dict[str, Protego | PenstockError] = {}

    def reason_against(self, url: str) -> str | None:
        """Return why a page may not be read, or None. Raises `ItemUnavailable` when its host's rules cannot be had."""
        if not self._is_obeyed:
            return None
        rules = self._find(url)
        return None if rules.can_fetch(url, self._user_agent) else "robots.txt does not allow it"

    def pause_s(self, url: str) -> float:
        """Return how long to wait between two requests to a host."""
        if not self._is_obeyed:
            return self._pause_s
        try:
            asked = self._find(url).crawl_delay(self._user_agent)
        except PenstockError:
            return self._pause_s
        return max(self._pause_s, min(float(asked or 0), MAX_PAUSE_S))

    def sitemaps(self, url: str) -> Sequence[str]:
        """Return the sitemaps that the host names."""
        try:
            found = [normalise_url(each, url) for each in self._find(url).sitemaps]
        except PenstockError:
            return []
        return [each for each in found if each is not None]

    def _find(self, url: str) -> Protego:
        where = origin(url)
        if where not in self._rules:
            try:
                self._rules[where] = self._load(f"{where}/robots.txt")
            except PenstockError as error:
                self._rules[where] = error
        found = self._rules[where]
        if isinstance(found, PenstockError):
            raise found
        return found

    def _load(self, url: str) -> Protego:
        for _ in range(MAX_REDIRECTS + 1):
            reply = self._fetcher.get(url, max_bytes=MAX_ROBOTS_BYTES)
            target = reply.goes_to
            if target is None:
                break
            after = normalise_url(target)
            if after is None:
                raise ItemUnavailable(f"{url} redirects to {target[:200]!r}, which is no address of the web.")
            url = after
        if reply.status >= 500:
            raise ItemUnavailable(f"{url} answers {reply.status}, so nothing of this host may be read.")
        if reply.status >= 300:
            return Protego.parse("")
        return Protego.parse(reply.body.decode("utf-8-sig", "replace"))
