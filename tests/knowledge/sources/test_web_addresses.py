"""Addresses: one form for each page, and no way into the private network by odd spellings."""

from collections.abc import Sequence

import pytest

from penstock.knowledge.sources.errors import ForbiddenAddress, ItemUnavailable
from penstock.knowledge.sources.web.addresses import make_scope, normalise_url, path_of
from penstock.knowledge.sources.web.guard import AddressGuard


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("HTTPS://Example.ORG:443/a/../b/./c?q=1#part", "https://example.org/b/c?q=1"),
        ("http://example.org", "http://example.org/"),
        ("http://user:pw@example.org/x", "http://example.org/x"),
        ("https://exämple.org/ü", "https://xn--exmple-cua.org/%C3%BC"),
        ("https://example.org/../../etc", "https://example.org/etc"),
        ("https://example.org/docs/%2e%2e/private/%41%7e?q=%2e", "https://example.org/private/A~?q=%2e"),
        ("file:///etc/passwd", None),
        ("javascript:alert(1)", None),
        ("https://[::1", None),
        ("https://example.org/" + "a/" * 50, None),
    ],
)
def test_an_address_has_one_form(url: str, normal: str | None) -> None:
    assert normalise_url(url) == normal


def test_only_the_folder_of_a_start_and_named_hosts_are_allowed() -> None:
    scope = make_scope(["https://example.org/docs/index.html"], ["api.example.org"])
    assert scope.allows("https://example.org/docs/a/b")
    assert scope.allows("https://api.example.org/anything")
    assert not scope.allows("https://example.org/docsx/")
    assert not scope.allows("https://example.org.evil.net/docs/")
    assert not scope.allows("http://example.org/docs/")


@pytest.mark.parametrize(
    ("url", "media_type", "path"),
    [
        ("https://example.org/docs/", "text/html", "example.org/docs/index.html"),
        ("https://example.org/docs/a.html", "text/html", "example.org/docs/a.html"),
        ("https://example.org/a.md", "text/plain", "example.org/a.md"),
        ("https://example.org/a.php?x=1", "text/html", "example.org/a.php?x=1.html"),
        ("https://example.org/a.html?x=1", "text/html", "example.org/a.html?x=1.html"),
        ("https://example.org/docs/..%2Fprivate/x.html", "text/html", "example.org/docs/..%2Fprivate/x.html"),
        ("https://example.org/report", "application/pdf", "example.org/report.pdf"),
    ],
)
def test_paths_tell_the_format(url: str, media_type: str, path: str) -> None:
    assert path_of(url, media_type) == path


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.1.1",
        "172.16.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "fe80::1%eth0",
        "fd00::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "64:ff9b:1::7f00:1",
        "64:ff9b:1::5db8:d70e",
        "::7f00:1",
        "::ffff:0:7f00:1",
        "fec0::1",
    ],
)
def test_private_addresses_are_refused_in_every_spelling(address: str) -> None:
    guard = AddressGuard(resolve=lambda _host, _port: ["93.184.215.14", address])
    with pytest.raises(ForbiddenAddress):
        guard.choose_address("rebinding.example", 80)


def test_what_is_allowed_by_name_or_network_is_called() -> None:
    def resolve(_host: str, _port: int) -> Sequence[str]:
        return ["10.1.2.3"]

    for allowed in ("wiki.internal", "10.0.0.0/8"):
        assert AddressGuard([allowed], resolve=resolve).choose_address("wiki.internal", 80) == "10.1.2.3"
    assert AddressGuard(["10.1.2.3"], resolve=resolve).choose_address("10.1.2.3", 80) == "10.1.2.3"
    for other in ("other.internal", "10.1.2.3"):
        with pytest.raises(ForbiddenAddress):
            AddressGuard([other], resolve=resolve).choose_address("wiki.internal", 80)


def test_metadata_of_clouds_is_never_called() -> None:
    def resolve(_host: str, _port: int) -> Sequence[str]:
        return ["169.254.169.254"]

    for allowed in ("0.0.0.0/0", "169.254.0.0/16", "metadata.internal", "169.254.169.254"):
        for host in ("metadata.internal", "169.254.169.254"):
            with pytest.raises(ForbiddenAddress) as caught:
                AddressGuard([allowed], resolve=resolve).choose_address(host, 80)
            assert "never read" in (caught.value.hint or "")
    for odd in ("64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe", "::ffff:0:a9fe:a9fe", "::a9fe:a9fe"):
        with pytest.raises(ForbiddenAddress):
            AddressGuard(["::/0"], resolve=lambda _host, _port, odd=odd: [odd]).choose_address(
                "x.example", 80
            )


def test_a_host_that_does_not_resolve_is_unavailable() -> None:
    def fail(_host: str, _port: int) -> Sequence[str]:
        raise OSError("Name or service not known")

    with pytest.raises(ItemUnavailable, match="cannot be found"):
        AddressGuard(resolve=fail).choose_address("nowhere.example", 80)
