"""Web sites: what they allow is read at their pace, what is unchanged is not sent again, and nothing leads inside."""

import contextlib
import gzip
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from penstock.knowledge.credentials import Credentials
from penstock.knowledge.errors import MassDeletion
from penstock.knowledge.sources.errors import ForbiddenAddress, InvalidSource, ItemUnavailable
from penstock.knowledge.sources.kinds.web import WebSource
from penstock.knowledge.sources.service import SourceService
from penstock.knowledge.sources.settings import read_settings
from penstock.knowledge.sources.types import KnownItem, LeftOut, Scan, SourceItem
from penstock.knowledge.sources.web.fetch import Fetcher
from penstock.knowledge.sources.web.guard import AddressGuard
from penstock.knowledge.sources.web.pages import MAX_PAGE_BYTES, read_page
from penstock.knowledge.sources.web.settings import WebSettings
from penstock.knowledge.types import InlineContext
from tests.knowledge.sources.conftest import CountingBlobs
from tests.knowledge.sources.sites import Page, Site, serve_site


@pytest.fixture
def site() -> Iterator[Site]:
    with serve_site() as found:
        yield found


def scan_site(
    site: Site, known: Mapping[str, KnownItem] | None = None, **settings: Any
) -> tuple[WebSource, dict[str, SourceItem], dict[str, LeftOut], list[float]]:
    slept: list[float] = []
    given = {"location": f"{site.url}/docs/", "pause_s": 0, "allow_private": ["127.0.0.1"], **settings}
    source = WebSource(
        "src_web",
        read_settings("web", given, WebSettings),
        Credentials(lambda name, _: f"opened-{name}", f"{site.url}/"),
        sleep=slept.append,
    )
    items: dict[str, SourceItem] = {}
    left_out: dict[str, LeftOut] = {}
    for found in source.scan(known or {}):
        path = found.path.removeprefix(site.host)
        if isinstance(found, SourceItem):
            items[path] = found
        else:
            left_out[path] = found
    return source, items, left_out, slept


def furnish(site: Site) -> None:
    site.put("/docs/", '<a href="a">A</a> <a href="b.html#part">B</a> <a href="/other/">Other</a>')
    site.put("/docs/a", '<a href="deep/c.html">C</a> <a href="b.html">B again</a>')
    site.put("/docs/b.html", "B.")
    site.put("/docs/deep/c.html", '<a href="d.html">D</a>')
    site.put("/docs/deep/d.html", "D.")


def test_links_are_followed_to_their_depth_and_within_the_folder(site: Site) -> None:
    furnish(site)
    source, items, left_out, _ = scan_site(site, depth=2)
    assert sorted(items) == ["/docs/a.html", "/docs/b.html", "/docs/deep/c.html", "/docs/index.html"]
    assert items["/docs/a.html"].properties.url == f"{site.url}/docs/a"
    assert (source.complete, source.problems, left_out) == (True, [], {})
    assert "/other/" not in site.asked()
    _, items, _, _ = scan_site(site, depth=0)
    assert sorted(items) == ["/docs/index.html"]


def test_sitemaps_are_read_through_indexes_and_packed_ones(site: Site) -> None:
    site.pages["/robots.txt"] = Page(body=f"Sitemap: {site.url}/index.xml\n".encode())
    index = f"<sitemapindex><sitemap><loc>{site.url}/one.xml.gz</loc></sitemap></sitemapindex>"
    site.pages["/index.xml"] = Page(body=index.encode())
    urls = "".join(f"<url><loc>{site.url}{path}</loc></url>" for path in ("/docs/x.html", "/private/y.html"))
    name = "http://www.sitemaps.org/schemas/sitemap/0.9"
    site.pages["/one.xml.gz"] = Page(body=gzip.compress(f'<urlset xmlns="{name}">{urls}</urlset>'.encode()))
    site.put("/docs/", "Start.")
    site.put("/docs/x.html", "X.")
    source, items, left_out, _ = scan_site(site)
    assert sorted(items) == ["/docs/index.html", "/docs/x.html"]
    assert left_out["/private/y.html"].reason == "in the sitemap, and outside the source"
    assert source.complete


def test_a_sitemap_alone_can_be_the_source(site: Site) -> None:
    site.put("/docs/x.html", "X.")
    site.pages["/sitemap.txt"] = Page(body=f"{site.url}/docs/x.html\n".encode())
    _, items, _, _ = scan_site(site, location=f"{site.url}/sitemap.txt")
    assert sorted(items) == ["/docs/x.html"]


@pytest.mark.parametrize(
    "body",
    [
        b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;">]><urlset><url><loc>&b;</loc></url></urlset>',
        b"<urlset><url><loc>http://127.0.0.1/x",
        gzip.compress(b"<urlset>" + b" " * 60_000_000),
    ],
)
def test_a_broken_or_swollen_sitemap_leaves_the_scan_incomplete(site: Site, body: bytes) -> None:
    site.pages["/robots.txt"] = Page(body=f"Sitemap: {site.url}/map.xml\n".encode())
    site.pages["/map.xml"] = Page(body=body)
    site.put("/docs/", "Start.")
    source, items, _, _ = scan_site(site)
    assert sorted(items) == ["/docs/index.html"]
    is_bomb_defused = body.startswith(b"<!DOCTYPE")
    assert source.complete is is_bomb_defused


def test_robots_rules_and_crawl_delay_are_kept(site: Site) -> None:
    furnish(site)
    rules = (
        "User-agent: *\nDisallow: /docs/deep/\nAllow: /docs/deep/*.html$\nDisallow: /docs/b\nCrawl-delay: 3\n"
    )
    site.pages["/robots.txt"] = Page(body=rules.encode())
    _, items, left_out, slept = scan_site(site, depth=3)
    assert "/docs/deep/c.html" in items
    assert left_out["/docs/b.html"].reason == "robots.txt does not allow it"
    assert "/docs/b.html" not in site.asked()
    assert slept
    assert all(2 < seconds <= 3 for seconds in slept)
    _, items, _, _ = scan_site(site, robots="ignore")
    assert "/docs/b.html" in items


def test_a_site_whose_robots_cannot_be_had_is_not_read_and_nothing_is_deleted(
    site: Site, sources: SourceService
) -> None:
    furnish(site)
    _add(sources, site)
    before = sources.scan_all("guide", InlineContext())
    site.pages["/robots.txt"] = Page(status=503)
    with pytest.raises(ItemUnavailable, match="robots"):
        sources.scan_all("guide", InlineContext())
    del site.pages["/robots.txt"]
    assert sources.scan_all("guide", InlineContext(), []).items[0].digest == before.items[0].digest
    assert len(sources.scan_all("guide", InlineContext()).items) == len(before.items)


def test_unchanged_pages_are_not_sent_again_and_their_links_are_still_known(
    site: Site, sources: SourceService, blobs: CountingBlobs
) -> None:
    site.put("/docs/", '<a href="a.html">A</a>', etag='"one"')
    site.put("/docs/a.html", '<a href="b.html">B</a>', modified=1_700_000_000)
    site.put("/docs/b.html", "B.")
    _add(sources, site)
    first = sources.scan_all("guide", InlineContext())
    n_puts = blobs.n_puts
    site.requests.clear()
    again = sources.scan_all("guide", InlineContext())
    assert again.items == first.items
    assert blobs.n_puts - n_puts == 1  # b.html has neither tag nor date
    assert [headers.get("if-none-match") for path, headers in site.requests if path == "/docs/"] == ['"one"']
    assert first.items[0].properties.modified_ns == 1_700_000_000 * 10**9


def test_a_page_that_fails_for_now_stays_and_so_does_what_it_led_to(
    site: Site, sources: SourceService
) -> None:
    furnish(site)
    _add(sources, site, depth=4)
    before = sources.scan_all("guide", InlineContext())
    assert len(before.items) == 5
    site.pages["/docs/a"] = Page(status=403)
    after = sources.scan_all("guide", InlineContext())
    assert _paths(after) == _paths(before)
    assert not after.outcomes[0].complete
    assert sources.get("guide", "site").counts == {"live": 4, "unreadable": 1}
    site.pages["/docs/a"] = Page(status=404)
    with pytest.raises(MassDeletion):
        sources.scan_all("guide", InlineContext())
    after = sources.scan_all("guide", InlineContext(), allow_mass_deletion=True)
    assert [path.removeprefix(site.host) for path in _paths(after)] == ["/docs/b.html", "/docs/index.html"]


def test_servers_that_ask_for_patience_are_asked_again(site: Site) -> None:
    site.pages["/docs/"] = Page(status=503, headers={"retry-after": "7"})
    with pytest.raises(ItemUnavailable, match="503"):
        scan_site(site)
    assert site.asked() == ["/docs/"] * 3


def test_redirects_are_followed_within_what_is_allowed_only(site: Site) -> None:
    site.put(
        "/docs/",
        '<a href="old">Old</a> <a href="out">Out</a> <a href="loop">Loop</a> <a href="file">File</a>',
    )
    site.pages["/docs/old"] = Page(status=301, headers={"location": "/docs/new.html"})
    site.pages["/docs/out"] = Page(status=301, headers={"location": "/admin/"})
    site.pages["/docs/loop"] = Page(status=302, headers={"location": "/docs/loop"})
    site.pages["/docs/file"] = Page(status=302, headers={"location": "file:///etc/passwd"})
    site.put("/docs/new.html", "New.")
    _, items, left_out, _ = scan_site(site)
    assert sorted(items) == ["/docs/index.html", "/docs/new.html"]
    assert "lies outside" in left_out["/docs/out"].reason
    assert "file:///etc/passwd, which lies outside" in left_out["/docs/file"].reason
    assert "redirects more than 5 times" in left_out["/docs/loop"].reason
    assert "/admin/" not in site.asked()


@pytest.mark.parametrize(
    ("status", "stays"), [(301, False), (302, True), (303, True), (307, True), (308, False)]
)
def test_a_page_behind_a_login_for_now_stays_and_one_that_moved_away_goes(
    site: Site, sources: SourceService, status: int, stays: bool
) -> None:
    furnish(site)
    _add(sources, site)
    sources.scan_all("guide", InlineContext())
    site.pages["/docs/b.html"] = Page(status=status, headers={"location": "https://sso.example.org/login"})
    found = sources.scan_all("guide", InlineContext())
    assert (f"{site.host}/docs/b.html" in _paths(found)) is stays
    assert found.outcomes[0].complete is not stays


HOSTILE = [
    Page(body=b"no gzip", headers={"content-type": "text/html", "content-encoding": "gzip"}),
    Page(status=302, headers={"location": "http://[bad"}),
    *(
        Page(body=b"<p>x</p>", headers={"content-type": f"text/html; charset={name}"})
        for name in ('"\x00x"', "undefined", "punycode", "hex", "idna")
    ),
    Page(
        body=b"<base href='http://[x'><a href='http://[bad/'>z</a>\x00<!--",
        headers={"content-type": "text/html"},
    ),
]


@pytest.mark.parametrize("page", HOSTILE)
@pytest.mark.parametrize("path", ["/docs/b.html", "/robots.txt", "/sitemap.xml"])
def test_no_page_stops_a_scan_of_other_sources_or_its_own(
    site: Site,
    sources: SourceService,
    tmp_path: Path,
    page: Page,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("penstock.knowledge.sources.kinds.web.ATTEMPTS", 1)
    furnish(site)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("Text.")
    sources.add("guide", "docs", "folder", {"location": str(tmp_path / "docs"), "prefix": "docs/"})
    _add(sources, site, prefix="")
    site.pages[path] = page
    found = sources.scan_all("guide", InlineContext())
    assert "docs/a.md" in _paths(found)
    if path == "/docs/b.html":
        assert f"{site.host}/docs/a.html" in _paths(found)


def test_encoded_dots_lead_out_of_the_folder_no_more_than_plain_ones(site: Site) -> None:
    site.put("/docs/", '<a href="/docs/%2e%2e/private/x.html">P</a> <a href="%2E%2E/private/y.html">Q</a>')
    _, items, _, _ = scan_site(site, headers={"authorization": "{{secret:docs}}"})
    assert sorted(items) == ["/docs/index.html"]
    assert site.asked() == ["/docs/"]


def test_headers_that_trickle_in_do_not_hold_a_scan_up() -> None:
    """A timeout of a socket is one of each read; the bound is on the whole page."""
    listener = socket.create_server(("127.0.0.1", 0))
    port, stop = listener.getsockname()[1], threading.Event()

    def trickle() -> None:
        peer, _ = listener.accept()
        with peer, contextlib.suppress(OSError):
            peer.sendall(b"HTTP/1.1 200 OK\r\nx: ")
            while not stop.wait(0.05):
                peer.sendall(b"x")

    server = threading.Thread(target=trickle, daemon=True)
    server.start()
    fetcher = Fetcher(AddressGuard(["127.0.0.1"]), user_agent="penstock", timeout_s=0.3, max_bytes=1000)
    try:
        with pytest.raises(ItemUnavailable, match="takes too long"):
            fetcher.get(f"http://127.0.0.1:{port}/")
    finally:
        stop.set()
        server.join(5)
        listener.close()


def test_a_page_that_is_cut_within_a_character_keeps_its_character_set() -> None:
    body = '<a href="ü.html">Ü</a>'.encode() + b"x" * (MAX_PAGE_BYTES - 24) + "ü".encode() * 9
    assert read_page("https://example.org/", body, "utf-8").links == ["https://example.org/%C3%BC.html"]


@pytest.mark.parametrize(
    "unit", [b"<!--", b"<![CDATA[", b"<a href='", b"<a x", b"<b><i><p>", b"&#", b"<script>"]
)
def test_links_of_a_hostile_page_are_read_in_time_that_grows_with_its_length_alone(unit: bytes) -> None:
    """html.parser took 18 s for 160 KB of `<!--`, and longer by the square: a minute's test ends this one."""
    body = b'<a href="first.html">F</a>' + unit * (500_000 // len(unit))
    assert read_page("https://example.org/", body, None).links[0] == "https://example.org/first.html"


def test_private_addresses_are_refused_unless_they_are_allowed_by_name(site: Site) -> None:
    site.put("/docs/", "Inside.")
    with pytest.raises(ForbiddenAddress, match="inside a private network"):
        scan_site(site, allow_private=[])
    assert site.requests == []


def test_a_redirect_into_the_private_network_is_refused_after_its_name_is_resolved(site: Site) -> None:
    site.put("/docs/", f'<a href="http://localhost:{site.port}/inner">Inner</a> <a href="go">Go</a>')
    site.pages["/docs/go"] = Page(status=302, headers={"location": f"http://localhost:{site.port}/inner"})
    site.put("/inner", "Secret.")
    source, items, left_out, _ = scan_site(site, hosts=[f"localhost:{site.port}"])
    assert sorted(items) == ["/docs/index.html"]
    assert not source.complete
    assert "inside a private network" in left_out["/docs/go"].reason
    assert "/inner" not in site.asked()
    _, items, _, _ = scan_site(
        site, hosts=[f"localhost:{site.port}"], allow_private=["127.0.0.0/8", "::1/128"]
    )
    assert f"localhost:{site.port}/inner.html" in items


def test_pages_that_ask_not_to_be_kept_are_not(site: Site) -> None:
    site.put("/docs/", '<a href="a.html">A</a> <a href="b.html" rel="nofollow">B</a>')
    site.put("/docs/a.html", '<meta name="robots" content="noindex"><a href="c.html">C</a>')
    site.put("/docs/b.html", "B.")
    site.put("/docs/c.html", "C.")
    _, items, left_out, _ = scan_site(site)
    assert sorted(items) == ["/docs/c.html", "/docs/index.html"]
    assert "noindex" in left_out["/docs/a.html"].reason


def test_bounds_of_pages_and_bytes_hold_and_are_told(site: Site) -> None:
    furnish(site)
    site.pages["/docs/b.html"] = Page(body=b"x" * 5000, headers={"content-type": "text/html"})
    source, items, left_out, _ = scan_site(site, max_bytes=1000, max_pages=3)
    assert sorted(items) == ["/docs/a.html", "/docs/index.html"]
    assert left_out["/docs/b.html"].reason == "more than 1,000 bytes"
    assert "stopped after 3 pages" in source.problems[0]
    assert not source.complete


def test_other_character_sets_and_types_are_told_apart(site: Site) -> None:
    site.put("/docs/", '<a href="latin">L</a> <a href="doc?id=1">P</a> <a href="pic.bin">Pic</a>')
    site.pages["/docs/latin"] = Page(
        body="Café".encode("latin-1"), headers={"content-type": "text/html; charset=ISO-8859-1"}
    )
    site.pages["/docs/doc?id=1"] = Page(body=b"%PDF-1.4", headers={"content-type": "application/pdf"})
    site.pages["/docs/pic.bin"] = Page(body=b"PIC", headers={"content-type": "image/x-own"})
    _, items, left_out, _ = scan_site(site)
    assert items["/docs/latin.html"].read().decode("utf-8-sig") == "Café"
    assert items["/docs/doc?id=1.pdf"].read() == b"%PDF-1.4"
    assert left_out["/docs/pic.bin"].reason == "no parser for image/x-own"


def test_credentials_go_to_the_host_of_the_source_only_and_are_never_shown(site: Site) -> None:
    furnish(site)
    with serve_site() as other:
        other.put("/x", "X.")
        site.put("/docs/", f'<a href="{other.url}/x">X</a>')
        _, items, _, _ = scan_site(
            site, hosts=[other.host], headers={"authorization": "Bearer {{secret:docs}}"}
        )
        assert len(items) == 2
        assert [headers.get("authorization") for path, headers in site.requests if path == "/docs/"] == [
            "Bearer opened-docs"
        ]
        assert all("authorization" not in headers for _, headers in other.requests)


@pytest.mark.parametrize(
    ("setting", "value", "text"),
    [
        ("location", "ftp://example.org/", "no address of a page"),
        ("location", "https://user:pw@example.org/", "password"),
        ("depth", -1, "at least 0"),
        ("headers", {"x": "a\r\nb"}, "cannot be sent"),
        ("allow_private", ["10.0.0.0/99"], "allow_private"),
        ("dept", 3, "no setting 'dept'"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(setting: str, value: object, text: str) -> None:
    with pytest.raises(InvalidSource, match=text):
        read_settings("web", {"location": "https://example.org/", setting: value}, WebSettings)


def _add(sources: SourceService, site: Site, **settings: Any) -> None:
    given = {"location": f"{site.url}/docs/", "pause_s": 0, "allow_private": ["127.0.0.1"], **settings}
    sources.add("guide", "site", "web", given)


def _paths(found: Scan) -> list[str]:
    return [item.path for item in found.items]
