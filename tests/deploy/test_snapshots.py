"""Snapshots: whole or refused, proven by digest, replaced at once."""

import json
import stat
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base.digest import digest_json
from penstock.deploy.errors import SnapshotDamaged, SnapshotInvalid, SnapshotMissing
from penstock.deploy.snapshots import (
    build_snapshot,
    follow_on,
    parse_snapshot,
    read_snapshot,
    write_snapshot,
)
from penstock.spec.routes import KeyRow, Provider, Route, Target
from penstock.spec.snapshot import Limits, Snapshot

OPENAI = Provider(name="openai", base_url="https://api.openai.com/v1", api_key_env="OPENAI_API_KEY")
ENGINE = Provider(name="engine", base_url="http://127.0.0.1:9100/v1", local=True, price_id="local")
POCKET = Route(name="pocket", targets=(Target(provider="engine", model="pocket"),), kind="chat")
MINI = Route(name="gpt-4o-mini", targets=(Target(provider="openai", model="gpt-4o-mini"),))
KEY = KeyRow(id="key_1", name="laptop", secret_sha256="ab" * 32)


def build(**changes: Any) -> Snapshot:
    rows: dict[str, Any] = {"providers": [OPENAI, ENGINE], "routes": [POCKET, MINI], "keys": [KEY], **changes}
    return build_snapshot(**rows)


def with_provider(**changes: Any) -> dict[str, Any]:
    return {"providers": [msgspec.structs.replace(OPENAI, **changes), ENGINE]}


def with_target(**changes: Any) -> dict[str, Any]:
    target = msgspec.structs.replace(MINI.targets[0], **changes)
    return {"routes": [msgspec.structs.replace(MINI, targets=(target,))]}


def with_key(**changes: Any) -> dict[str, Any]:
    return {"keys": [msgspec.structs.replace(KEY, **changes)]}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "snapshot" / "current.json"
    snapshot = build(limits=Limits(max_concurrent_calls=7))
    write_snapshot(path, snapshot)
    assert read_snapshot(path) == snapshot
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["current.json"]


def test_the_digest_knows_content_not_order_nor_time() -> None:
    first = build(clock=lambda: 1)
    second = build(providers=[ENGINE, OPENAI], routes=[MINI, POCKET], clock=lambda: 2)
    assert first.digest == second.digest
    assert build(routes=[POCKET]).digest != first.digest
    assert build(limits=Limits(max_json_depth=9)).digest != first.digest


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"providers": [OPENAI, OPENAI, ENGINE]}, "provider 'openai': it stands there 2 times"),
        ({"routes": [MINI, MINI]}, "route 'gpt-4o-mini': it stands there 2 times"),
        ({"keys": [KEY, KEY]}, "key 'key_1': it stands there 2 times"),
        (
            {"keys": [KEY, msgspec.structs.replace(KEY, id="key_2")]},
            "a secret of this digest stands there 2 times",
        ),
        ({"providers": [ENGINE]}, "names the provider 'openai', which is not there; known: engine"),
        ({"routes": [Route(name="empty", targets=())]}, "it has no target"),
        (with_target(weight=0.0), "weight of openai/gpt-4o-mini must be over 0"),
        (with_target(weight=-1.0), "must be over 0"),
        (with_target(weight=float("nan")), "must be over 0"),
        (with_target(weight=float("inf")), "must be over 0"),
        (with_target(model=""), "printable characters"),
        (with_target(model="a\r\nb"), "printable characters"),
        ({"routes": [msgspec.structs.replace(MINI, name="a\r\nx-evil: 1")]}, "stands in reply headers"),
        ({"routes": [msgspec.structs.replace(MINI, version="1\n2")]}, "its version must be printable"),
        (with_provider(name=""), "its name must be"),
        (with_provider(base_url="api.openai.com/v1"), "must begin with http"),
        (with_provider(base_url="file:///etc/passwd"), "must begin with http"),
        (with_provider(base_url="http://"), "must begin with http"),
        (with_provider(base_url="https://user:pass@host/v1"), "user name or password"),
        (with_provider(base_url="https://host/v1?x=1"), "has a . or # part"),
        (with_provider(base_url="https://host:99999/v1"), "cannot be read"),
        (with_provider(base_url="https://host:0/v1"), "port 0"),
        (with_provider(base_url="https://[::1/v1"), "cannot be read"),
        (with_provider(base_url="https://ho st/v1"), "characters that no address has"),
        (with_provider(base_url="https://host/\r\nv1"), "characters that no address has"),
        (with_provider(base_url="http://169.254.169.254/latest"), "calls are never sent to"),
        (with_provider(base_url="http://2852039166/latest"), "calls are never sent to"),
        (with_provider(base_url="http://0xa9fea9fe/latest"), "calls are never sent to"),
        (with_provider(base_url="http://[fe80::1]/v1"), "calls are never sent to"),
        (with_provider(base_url="http://[::ffff:169.254.169.254]/v1"), "calls are never sent to"),
        (with_provider(base_url="http://0.0.0.0:8000/v1"), "calls are never sent to"),
        (with_provider(local=True), "it is local but 'api.openai.com' is not a loopback address"),
        (with_provider(local=True, base_url="http://10.0.0.7/v1"), "not a loopback address"),
        (with_provider(api_key_env="sk-123"), "not the name of an environment variable"),
        (with_provider(timeout_s=0.0), "timeout_s must be over 0"),
        (with_provider(connect_timeout_s=float("nan")), "connect_timeout_s must be over 0"),
        (with_key(secret_sha256="AB" * 32), "not 64 hex"),
        (with_key(scopes=()), "its scopes must be of"),
        (with_key(scopes=("root",)), "its scopes must be of"),
        (with_key(requests_per_minute=0), "requests_per_minute must be at least 1"),
        (with_key(routes=()), "no route at all"),
        ({"limits": Limits(max_body_bytes=0)}, "max_body_bytes must be at least 1"),
        ({"limits": Limits(max_payload_bytes=-1)}, "must not be negative"),
    ],
)
def test_what_contradicts_itself_is_refused_with_the_reason(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(SnapshotInvalid, match=reason):
        build(**changes)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:9100/v1", "http://10.1.2.3:8000/v1", "http://[::1]:8080/v1", "http://ollama:11434/v1"],
)
def test_private_addresses_of_providers_that_somebody_wrote_are_meant(url: str) -> None:
    assert build(**with_provider(base_url=url)).providers[1].base_url == url


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(SnapshotInvalid) as refused:
        build(**with_target(weight=0.0, provider="nope"), **with_key(scopes=()))
    assert len(refused.value.fields["problems"]) == 3


def test_a_snapshot_that_was_changed_after_it_was_built_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "current.json"
    with pytest.raises(SnapshotInvalid, match="digest"):
        write_snapshot(path, msgspec.structs.replace(build(), routes=()))
    with pytest.raises(SnapshotInvalid):
        write_snapshot(path, msgspec.structs.replace(build(), providers=()))
    assert not path.exists()


def test_a_missing_file_is_told_apart_from_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(SnapshotMissing, match="penstock up"):
        read_snapshot(tmp_path / "current.json")
    with pytest.raises(SnapshotDamaged, match="cannot be read"):
        read_snapshot(tmp_path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it is empty"),
        (b"  \n", "it is empty"),
        (b"{", "line 1, column 2"),
        (b'{"digest": }', "line 1, column 12"),
        (b"\xff\xfe{", "it is no JSON"),
        (b"[" * 200_000, "it is no JSON"),
        (b"[]", "it is no snapshot"),
        (b"null", "it is no snapshot"),
        (b'{"digest": "x"}', "missing required field `written_ns`"),
        (b'{"digest": "x", "written_ns": 1, "routes": [{"name": 1}]}', r"\$.routes\[0\]"),
        (b'{"digest": "x", "written_ns": 1}', "digest does not fit"),
        (b'{"digest": "x", "written_ns": 1, "more": NaN}', "digest does not fit"),
    ],
)
def test_damage_is_named(data: bytes, reason: str) -> None:
    with pytest.raises(SnapshotDamaged, match=reason):
        parse_snapshot(data, source="current.json")


def test_an_edited_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "current.json"
    write_snapshot(path, build())
    path.write_bytes(path.read_bytes().replace(b"api.openai.com", b"api.evil.test."))
    with pytest.raises(SnapshotDamaged, match="edited or cut"):
        read_snapshot(path)


def test_a_file_of_a_newer_program_with_more_fields_is_read() -> None:
    whole = json.loads(msgspec.json.encode(build()))
    del whole["digest"]
    whole["routes"][0]["cache"] = {"ttl_s": 60}
    stamp = whole.pop("written_ns")
    data = json.dumps({**whole, "digest": digest_json(whole), "written_ns": stamp}).encode()
    assert [route.name for route in parse_snapshot(data, source="x").routes] == ["gpt-4o-mini", "pocket"]


@settings(deadline=None, database=None)
@given(cut=st.integers(min_value=0, max_value=10_000), flip=st.integers(min_value=0, max_value=7))
def test_no_cut_and_no_flipped_bit_goes_unseen(cut: int, flip: int) -> None:
    snapshot = build(clock=lambda: 1)
    data = msgspec.json.encode(snapshot)
    with pytest.raises(SnapshotDamaged):
        parse_snapshot(data[: cut % len(data)], source="x")
    changed = bytearray(data)
    changed[cut % len(data)] ^= 1 << flip
    try:
        found = parse_snapshot(bytes(changed), source="x")
    except (SnapshotDamaged, SnapshotInvalid):
        return
    # only the time of writing is outside the digest
    assert msgspec.structs.replace(found, written_ns=1) == snapshot


def test_a_reader_never_sees_half_a_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "current.json"
    versions = [build(), build(routes=[POCKET])]
    write_snapshot(path, versions[0])
    stop = threading.Event()
    seen: list[str] = []

    def read() -> None:
        while not stop.is_set():
            seen.append(read_snapshot(path).digest)

    reader = threading.Thread(target=read)
    reader.start()
    for n in range(40):
        write_snapshot(path, versions[n % 2])
    stop.set()
    reader.join()
    assert set(seen) <= {version.digest for version in versions}
    assert seen


def test_the_newer_snapshot_is_the_newer_one_also_when_the_clock_was_set_back(tmp_path: Path) -> None:
    former = build_snapshot(providers=(), routes=(), keys=(), clock=lambda: 10_000)
    later = follow_on(build_snapshot(providers=(), routes=(), keys=(), clock=lambda: 9_000), former)
    assert later.written_ns == 10_001
    write_snapshot(tmp_path / "snapshot.json", later)
    assert read_snapshot(tmp_path / "snapshot.json") == later
    assert follow_on(former, None) == former
