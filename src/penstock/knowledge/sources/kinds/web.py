"""Pages of web sites: what links and sitemaps lead to within the allowed, at the pace that the site asks for.

Identity is the address after redirects. A page that is unchanged by its server's own word is not sent again; its
links are read from what is kept of it. What cannot be had for the moment keeps its last version, and a scan that
missed a page which may have led to others deletes nothing.
"""

import codecs
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import PurePosixPath

from penstock.base.errors import PenstockError
from penstock.knowledge.credentials import Credentials
from penstock.knowledge.parse import SUFFIXES
from penstock.knowledge.sources.errors import ForbiddenAddress, ItemUnavailable
from penstock.knowledge.sources.patterns import reason_against
from penstock.knowledge.sources.properties import merge_properties
from penstock.knowledge.sources.types import KnownItem, LeftOut, SourceItem, note_problem
from penstock.knowledge.sources.web.addresses import make_scope, normalise_url, origin, path_of
from penstock.knowledge.sources.web.fetch import Fetcher, Reply
from penstock.knowledge.sources.web.guard import AddressGuard, Resolve
from penstock.knowledge.sources.web.pages import read_page
from penstock.knowledge.sources.web.robots import RobotRules
from penstock.knowledge.sources.web.settings import WebSettings
from penstock.knowledge.sources.web.sitemaps import MAX_SITEMAP_BYTES, read_sitemap
from penstock.spec.knowledge import Properties

MAX_REDIRECTS = 5
MAX_PATH_CHARS = 500
MAX_SITEMAPS = 200
MAX_WAIT_S = 60.0
"""Longest that a server's `retry-after` is followed."""
ATTEMPTS = 3
MAX_FAILURES = 5
_TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504})
_GONE = frozenset({404, 410})


@dataclass(frozen=True, kw_only=True)
class _Known:
    path: str
    item: KnownItem


class WebSource:
    """Pages of the web."""

    def __init__(
        self,
        source_id: str,
        settings: WebSettings,
        credentials: Credentials,
        *,
        resolve: Resolve | None = None,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.complete = False
        self.problems: list[str] = []
        self._source_id = source_id
        self._settings = settings
        self._sleep = sleep
        self._now = now
        starts = [normalise_url(each) for each in (settings.location, *settings.also)]
        self._starts = [each for each in starts if each is not None]
        self._scope = make_scope(self._starts, settings.hosts)
        headers = {name: credentials.fill(value) for name, value in settings.headers.items()}
        own = origin(self._starts[0])
        self._fetcher = Fetcher(
            AddressGuard(settings.allow_private, resolve=resolve),
            user_agent=settings.user_agent,
            timeout_s=settings.timeout_s,
            max_bytes=settings.max_bytes,
            headers_for=lambda url: headers if origin(url) == own else {},
            now=now,
        )
        self._rules = RobotRules(
            self._fetcher,
            user_agent=settings.user_agent,
            pause_s=settings.pause_s,
            is_obeyed=settings.robots == "obey",
        )
        self._asked: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        """Pages in a row that a host did not answer for."""
        self._known: dict[str, _Known] = {}
        self._taken: set[str] = set()
        self._waiting: deque[tuple[str, int]] = deque()
        self._queued: set[str] = set()
        self._outside: list[str] = []
        """Pages of sitemaps that the source does not take."""
        self._first_error: PenstockError | None = None

    def scan(self, known: Mapping[str, KnownItem]) -> Iterator[SourceItem | LeftOut]:
        """Yield the pages. Raises the first error when not a single page can be had."""
        for path, item in known.items():
            url = item.properties.get("url")
            if isinstance(url, str):
                self._known[url] = _Known(path=path, item=item)
        ends = self._now() + self._settings.max_minutes * 60
        self._find_starts()
        for url in dict.fromkeys(self._outside):
            yield LeftOut(
                path=path_of(url, None)[:MAX_PATH_CHARS], reason="in the sitemap, and outside the source"
            )
        n_pages = n_items = 0
        while self._waiting:
            if n_pages >= self._settings.max_pages:
                self.problems.append(f"stopped after {n_pages} pages; raise max_pages or narrow the source")
                break
            if self._now() > ends:
                self.problems.append(f"stopped after {self._settings.max_minutes:g} minutes, {n_pages} pages")
                break
            url, depth = self._waiting.popleft()
            n_pages += 1
            for found in self._visit(url, depth):
                n_items += isinstance(found, SourceItem)
                yield found
        if n_items == 0 and self._first_error is not None:
            raise self._first_error
        self.complete = not self.problems

    # ---- what is to be read

    def _find_starts(self) -> None:
        sitemaps = [url for url in self._starts if _is_sitemap(url)]
        for url in self._starts:
            if not _is_sitemap(url):
                self._queue(url, 0)
        if self._settings.sitemap and not sitemaps:
            sitemaps = list(self._rules.sitemaps(self._starts[0]))
            if not sitemaps:
                self._read_sitemap(f"{origin(self._starts[0])}/sitemap.xml", is_guess=True)
        waiting = deque((url, 0) for url in sitemaps)
        n_read = 0
        while waiting:
            url, level = waiting.popleft()
            n_read += 1
            if n_read > MAX_SITEMAPS or level > MAX_REDIRECTS:
                self.problems.append(f"more than {MAX_SITEMAPS} sitemaps, the rest was not read")
                break
            waiting.extend((each, level + 1) for each in self._read_sitemap(url))

    def _read_sitemap(self, url: str, *, is_guess: bool = False) -> list[str]:
        try:
            reply = self._ask(url, {}, max_bytes=MAX_SITEMAP_BYTES)
        except PenstockError as error:
            self._note(error, f"the sitemap {url} cannot be read: {error.message}")
            return []
        if reply.status != 200:
            if not (is_guess and 400 <= reply.status < 500):
                self._note(None, f"the sitemap {url} answers {reply.status}")
            return []
        found = read_sitemap(reply.body)
        problem = "it is too large" if reply.is_cut else found.problem
        if problem is not None and not (is_guess and not found.pages and not found.sitemaps):
            self._note(None, f"the sitemap {url} is not read to its end: {problem}")
        for each in found.pages:
            if not self._queue(normalise_url(each, url), 0):
                self._outside.append(each)
        nested = [normalise_url(each, url) for each in found.sitemaps]
        return [each for each in nested if each is not None]

    def _queue(self, url: str | None, depth: int) -> bool:
        """Line up a page, once; return False when it lies outside."""
        if url is None or not self._scope.allows(url):
            return False
        if url not in self._queued:
            self._queued.add(url)
            self._waiting.append((url, depth))
        return True

    # ---- reading

    def _visit(self, url: str, depth: int) -> Iterator[SourceItem | LeftOut]:
        if url in self._taken:  # a redirect led there already
            return
        place = path_of(url, None)
        reason = reason_against(place, self._settings.include, self._settings.exclude)
        known = self._known.get(url)
        if reason is not None:
            yield LeftOut(path=known.path if known else place, reason=reason)
            return
        try:
            reply = self._follow(url, known)
        except _Refused as refused:
            if refused.is_for_now:
                self._note(None, f"{url}: {refused.reason}")
            path = known.path if known else place
            yield LeftOut(path=path, reason=refused.reason, is_unreadable=refused.is_for_now)
            return
        except PenstockError as error:
            self._note(error, f"{url} cannot be read: {error.message}")
            yield LeftOut(path=known.path if known else place, reason=error.message, is_unreadable=True)
            return
        if reply.url in self._taken:
            if reply.url != url:
                yield LeftOut(path=place, reason=f"leads to {reply.url}, which is read")
            return
        self._taken.add(reply.url)
        self._queued.add(reply.url)
        yield from self._take(reply, depth)

    def _take(self, reply: Reply, depth: int) -> Iterator[SourceItem | LeftOut]:
        known = self._known.get(reply.url)
        if reply.status == 304 and known is not None:
            yield from self._take_known(reply.url, known, depth)
            return
        place = known.path if known else path_of(reply.url, None)
        if reply.status in _GONE:
            yield LeftOut(path=place, reason=f"the server answers {reply.status}")
            return
        if reply.status != 200:
            self._note(None, f"{reply.url} answers {reply.status}")
            yield LeftOut(path=place, reason=f"the server answers {reply.status}", is_unreadable=True)
            return
        path = path_of(reply.url, reply.media_type)
        may_index = True
        if _is_html(reply.media_type, path):
            page = read_page(reply.url, reply.body, reply.charset, reply.headers.get("x-robots-tag", ""))
            may_index = page.may_index or self._settings.robots == "ignore"
            if depth < self._settings.depth:
                for link in page.links:
                    self._queue(link, depth + 1)
        if not may_index:
            yield LeftOut(path=path, reason="the page asks not to be kept (noindex)")
        elif reply.is_cut:
            yield LeftOut(path=path, reason=f"more than {self._settings.max_bytes:,} bytes")
        elif PurePosixPath(path).suffix.lower() not in SUFFIXES:
            yield LeftOut(path=path, reason=f"no parser for {reply.media_type or 'an unknown type'}")
        else:
            body = _with_charset(reply)
            yield SourceItem(
                source_id=self._source_id,
                path=path,
                token=_token(reply),
                size_bytes=len(body),
                properties=self._properties(reply),
                read=lambda: body,
            )

    def _take_known(self, url: str, known: _Known, depth: int) -> Iterator[SourceItem | LeftOut]:
        if depth < self._settings.depth and PurePosixPath(known.path).suffix.lower() in {".html", ".htm"}:
            for link in read_page(url, known.item.read(), None).links:
                self._queue(link, depth + 1)
        told = Properties(
            url=url,
            language=_text(known.item.properties.get("language")),
            modified_ns=_number(known.item.properties.get("modified_ns")),
        )
        yield SourceItem(
            source_id=self._source_id,
            path=known.path,
            token=known.item.token,
            size_bytes=known.item.size_bytes,
            properties=merge_properties(told, self._settings.common_properties()),
            read=known.item.read,
        )

    def _follow(self, url: str, known: _Known | None) -> Reply:
        """Return the answer at the end of all redirects. Raises `_Refused` when one leads out of what is allowed."""
        headers = _conditions(known.item.token) if known else {}
        for _ in range(MAX_REDIRECTS + 1):
            reason = self._rules.reason_against(url)
            if reason is not None:
                raise _Refused(reason)
            reply = self._ask(url, headers)
            target = reply.goes_to
            if target is None:
                return reply
            after = normalise_url(target)
            if after is None or not self._scope.allows(after):
                raise _Refused(
                    f"redirects to {target[:200]}, which lies outside the source",
                    is_for_now=not reply.is_moved_for_good,
                )
            if after in self._taken:
                return Reply(url=after, status=200, headers={}, body=b"")
            url = after
            known = self._known.get(url)
            headers = _conditions(known.item.token) if known else {}
        raise _Refused(f"redirects more than {MAX_REDIRECTS} times")

    def _ask(self, url: str, headers: Mapping[str, str], *, max_bytes: int | None = None) -> Reply:
        """Ask at the pace of the host; what a server cannot answer for the moment is asked again, twice."""
        host = origin(url)
        if self._failures.get(host, 0) >= MAX_FAILURES:
            raise ItemUnavailable(f"{host} failed {MAX_FAILURES} times in a row and is not asked again.")
        for attempt in range(1, ATTEMPTS + 1):
            self._keep_pace(url)
            try:
                reply = self._fetcher.get(url, headers, max_bytes=max_bytes)
            except ForbiddenAddress:
                raise
            except ItemUnavailable:
                if attempt == ATTEMPTS:
                    self._failures[host] = self._failures.get(host, 0) + 1
                    raise
                self._sleep(float(attempt))
                continue
            self._failures[host] = 0
            if reply.status not in _TEMPORARY or attempt == ATTEMPTS:
                return reply
            self._sleep(_retry_after_s(reply, attempt))
        raise AssertionError("the last attempt returns or raises")

    def _keep_pace(self, url: str) -> None:
        host = origin(url)
        pause_s = self._rules.pause_s(url)
        since = self._now() - self._asked.get(host, -1e9)
        if since < pause_s:
            self._sleep(pause_s - since)
        self._asked[host] = self._now()

    def _note(self, error: PenstockError | None, problem: str) -> None:
        note_problem(self.problems, problem)
        if self._first_error is None:
            self._first_error = error or ItemUnavailable(f"{problem[0].upper()}{problem[1:]}.")

    def _properties(self, reply: Reply) -> Properties:
        told = Properties(
            url=reply.url,
            language=(reply.headers.get("content-language", "").partition(",")[0].strip() or None),
            modified_ns=_modified_ns(reply.headers.get("last-modified")),
        )
        return merge_properties(told, self._settings.common_properties())


class _Refused(Exception):
    """The page is not to be read, and why."""

    def __init__(self, reason: str, *, is_for_now: bool = False) -> None:
        """`is_for_now`: a login or a maintenance page stands before it, and it may be there again."""
        super().__init__(reason)
        self.reason = reason
        self.is_for_now = is_for_now


def _is_sitemap(url: str) -> bool:
    path = url.partition("?")[0].lower()
    return path.endswith((".xml", ".xml.gz", "sitemap.txt"))


def _is_html(media_type: str | None, path: str) -> bool:
    if media_type is None:
        return PurePosixPath(path).suffix.lower() in {".html", ".htm"}
    return media_type in {"text/html", "application/xhtml+xml"}


def _token(reply: Reply) -> str | None:
    """Return what the next request can be made conditional on, or None. Weak tags do for reading."""
    etag, modified = reply.headers.get("etag"), reply.headers.get("last-modified")
    if etag:
        return f"etag:{etag}"
    return f"modified:{modified}" if modified else None


def _conditions(token: str | None) -> dict[str, str]:
    kind, _, value = (token or "").partition(":")
    if kind == "etag":
        return {"if-none-match": value}
    return {"if-modified-since": value} if kind == "modified" else {}


def _with_charset(reply: Reply) -> bytes:
    """Return the bytes so that their character set is known without the header: marked as UTF-8 where it is another."""
    charset = reply.charset
    if charset is None or not (reply.media_type or "").startswith("text/"):
        return reply.body
    try:
        if codecs.lookup(charset).name in {"utf-8", "ascii"}:
            return reply.body
        return codecs.BOM_UTF8 + reply.body.decode(charset).encode()
    except (LookupError, ValueError):  # some codecs raise no UnicodeError
        return reply.body


def _retry_after_s(reply: Reply, attempt: int) -> float:
    told = reply.headers.get("retry-after", "").strip()
    return min(float(told), MAX_WAIT_S) if told.isdigit() else float(attempt)


def _modified_ns(value: str | None) -> int | None:
    if not value:
        return None
    try:
        return int(parsedate_to_datetime(value).timestamp()) * 1_000_000_000
    except (ValueError, TypeError, OverflowError):
        return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None
