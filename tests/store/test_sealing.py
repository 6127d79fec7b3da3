"""Sealed secrets: open with the right key, name and host, and with nothing else."""

import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.store.sealing import (
    MasterKeys,
    MasterKeyUnusable,
    SealBroken,
    make_master_keys,
    new_master_key,
    origin_of,
    read_master_keys,
    sealed_origin,
    sealing_key_id,
    write_master_keys,
)

KEYS = MasterKeys((("mk1", b"k" * 32),))
HOST = "https://api.example.com"


def seal(text: str = "sk-upstream") -> str:
    return KEYS.seal(text, name="openai", origin=HOST)


@given(st.text(min_size=1, max_size=200))
def test_what_is_sealed_opens_again_and_never_reads_the_same_twice(text: str) -> None:
    first, second = seal(text), seal(text)
    assert first != second
    assert KEYS.open(first, name="openai", origin=HOST) == text
    assert (sealed_origin(first), sealing_key_id(first)) == (HOST, "mk1")


def test_what_an_earlier_version_sealed_still_opens() -> None:
    sealed = "psk1.mk1.aHR0cHM6Ly9hcGkuZXhhbXBsZS5jb20.AMkeN8mPGakq4jDp7hHUNU-RleoMQubZbH_YfoeEL2az3pPzJVG4"
    assert KEYS.open(sealed, name="openai", origin=HOST) == "sk-upstream"


def test_the_sealed_text_holds_nothing_of_the_secret() -> None:
    assert "sk-upstream" not in seal()


@pytest.mark.parametrize(
    ("name", "origin", "words"),
    [
        ("other", HOST, "sealed for another name"),
        ("openai", "https://evil.example", "was entered for https://api.example.com"),
        ("openai", "http://api.example.com", "is not sent to http://api.example.com"),
    ],
)
def test_another_name_or_host_does_not_open_it(name: str, origin: str, words: str) -> None:
    with pytest.raises(SealBroken, match=words):
        KEYS.open(seal(), name=name, origin=origin)


def test_a_host_that_was_written_over_in_the_text_does_not_open_it() -> None:
    """Whoever can edit the table could write another host into it: it is authenticated too."""
    form, key_id, _, data = seal().split(".")
    elsewhere = KEYS.seal("x", name="openai", origin="https://evil.example").split(".")[2]
    with pytest.raises(SealBroken, match="does not open"):
        KEYS.open(f"{form}.{key_id}.{elsewhere}.{data}", name="openai", origin="https://evil.example")


@given(st.integers(0, 400), st.integers(1, 255))
def test_a_changed_byte_does_not_open(position: int, change: int) -> None:
    sealed = seal()
    position %= len(sealed)
    damaged = sealed[:position] + chr((ord(sealed[position]) ^ change) % 128) + sealed[position + 1 :]
    try:
        opened = KEYS.open(damaged, name="openai", origin=HOST)
    except SealBroken:
        return
    assert opened == "sk-upstream"  # a bit that base64 does not use


@pytest.mark.parametrize(
    "text", ["", "x", "psk1.", "psk1.mk1.a.b", "psk1.mk1..", "psk2.mk1.a.b", "psk1.a.b.c.d"]
)
def test_garbage_is_no_sealed_text(text: str) -> None:
    with pytest.raises(SealBroken):
        KEYS.open(text, name="openai", origin=HOST)


def test_another_master_key_is_named_in_the_refusal() -> None:
    with pytest.raises(SealBroken, match="master key mk1, which is not here"):
        MasterKeys((("mk2", b"z" * 32),)).open(seal(), name="openai", origin=HOST)


def test_an_older_key_of_the_file_still_opens(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    write_master_keys(path, MasterKeys((("mk2", b"z" * 32), *KEYS.keys)))
    found = read_master_keys(path)
    assert found.open(seal(), name="openai", origin=HOST) == "sk-upstream"
    assert found.current_id == "mk2"
    assert "z" * 4 not in repr(found)


def test_the_key_file_is_made_once_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    found: list[MasterKeys] = []
    threads = [threading.Thread(target=lambda: found.append(make_master_keys(path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({keys.keys for keys in found}) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["master.key"]


@pytest.mark.parametrize("text", ["", "mk1", "mk1 abcd", "mk1 " + "zz" * 32, "mk 1 " + "ab" * 32])
def test_a_file_without_a_key_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "master.key"
    path.write_text(text)
    with pytest.raises(MasterKeyUnusable, match=r"master\.key"):
        read_master_keys(path)
    with pytest.raises(MasterKeyUnusable, match="cannot be read"):
        read_master_keys(tmp_path / "nowhere")


def test_fresh_keys_differ() -> None:
    assert new_master_key() != new_master_key()


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://API.Example.com/v1", "https://api.example.com"),
        ("https://api.example.com:443/v1", "https://api.example.com"),
        ("http://127.0.0.1:9100/v1", "http://127.0.0.1:9100"),
        ("http://[::1]:80/", "http://[::1]"),
        ("https://api.example.com:8443", "https://api.example.com:8443"),
        ("postgresql://reader@DB.example:5432/wiki", "postgresql://db.example"),
        ("s3://bucket/docs", "s3://bucket"),
        ("ftp://x", ""),
        ("nonsense", ""),
        ("https://[::1/v1", ""),
        ("https://host:99999", ""),
    ],
)
def test_an_origin_has_one_form(url: str, origin: str) -> None:
    assert origin_of(url) == origin
