"""Upkeep and privacy over REST: counts, exports, erasures in the background, receipts that verify."""

import io
import json
import threading
import zipfile

from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import Furnished

ADA = {"kind": "user", "id": "ada"}


def test_everything_of_a_user_is_handed_out_with_digests(owner: AsgiClient) -> None:
    found = owner.post_json("/api/v1/privacy/erase", {**ADA, "dry_run": True}).json()
    reply = owner.post_json("/api/v1/privacy/export", ADA)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/zip")
    with zipfile.ZipFile(io.BytesIO(reply.body)) as archive:
        assert archive.testzip() is None
        spans = [json.loads(line) for line in archive.read("traces.jsonl").splitlines()]
        ledger = [json.loads(line) for line in archive.read("ledger.jsonl").splitlines()]
        manifest = json.loads(archive.read("manifest.json"))
    assert len(spans) == found["n_spans"]
    assert {span["trace_id"] for span in spans} == set(found["trace_ids"])
    assert any("content" in str(span.get("input")) for span in spans)
    assert len(ledger) == found["n_ledger_rows"]
    assert {each["name"]: each["n_lines"] for each in manifest["files"]}["traces.jsonl"] == len(spans)


def test_an_erasure_is_taken_at_once_and_done_by_the_upkeep_thread(
    owner: AsgiClient, furnished: Furnished
) -> None:
    asked = owner.post_json("/api/v1/privacy/erase", {**ADA, "reason": "ticket 1"})
    assert asked.status == 202
    place = f"/api/v1/privacy/erasures/{asked.json()['id']}"
    assert owner.get(place).json()["state"] == "waiting"
    assert owner.get("/api/v1/upkeep").json()["n_waiting_erasures"] == 1
    stop = threading.Event()
    thread = threading.Thread(target=furnished.services.upkeep.run, args=(stop,))
    thread.start()
    pause = threading.Event()
    while owner.get(place).json()["state"] != "done":
        pause.wait(0.05)
    stop.set()
    thread.join()
    number = owner.get(place).json()["receipt"]
    receipt = owner.get(f"/api/v1/privacy/receipts/{number}").json()
    told = owner.post_json("/api/v1/privacy/verify", {"receipt": receipt, "subject": ADA}).json()
    assert (told["is_signed"], told["is_ours"], told["is_in_chain"], told["is_of_subject"]) == (True,) * 4
    assert owner.get("/api/v1/privacy/receipts").json()["receipts"][0]["actor"].startswith("admin (key_")
    assert owner.get("/api/v1/users").json()["rows"] == []


def test_what_cannot_be_asked_is_refused_by_name(owner: AsgiClient) -> None:
    for path, body, status, code in (
        ("/api/v1/privacy/erase", {"kind": "tenant", "id": "x"}, 400, "PS-1001"),
        ("/api/v1/privacy/erase", {"kind": "user", "id": ""}, 400, "PS-1001"),
        ("/api/v1/privacy/erase", {"kind": "trace", "id": "nonsense"}, 400, "PS-1761"),
        ("/api/v1/privacy/export", {"kind": "trace", "id": "nonsense"}, 400, "PS-1761"),
        ("/api/v1/privacy/erase", {**ADA, "reason": "ada asked"}, 400, "PS-1761"),
        ("/api/v1/privacy/verify", {"receipt": {"content": "{}"}}, 400, "PS-1762"),
        ("/api/v1/privacy/replay", {"receipt": {}}, 400, "PS-1762"),
    ):
        reply = owner.post_json(path, body)
        assert (reply.status, reply.json()["error"]["code"]) == (status, code), (path, body)
    for path in ("/api/v1/privacy/erasures/era_x", "/api/v1/privacy/receipts/77"):
        assert owner.get(path).json()["error"]["code"] == "PS-1760"


def test_a_key_for_calls_may_neither_look_nor_erase(app: object, furnished: Furnished) -> None:
    caller = AsgiClient(app, bearer=furnished.call_key)
    for path in ("privacy/erase", "privacy/export"):
        assert caller.post_json(f"/api/v1/{path}", ADA).status == 403
    for path in ("expire", "compact", "span-copy"):
        assert caller.post_json(f"/api/v1/upkeep/{path}", {}).status == 403


def test_the_store_is_counted_expired_written_anew_and_copied(
    owner: AsgiClient, furnished: Furnished
) -> None:
    assert owner.post_json("/api/v1/upkeep/expire", {"dry_run": True}).json()["n_spans"] == 0
    assert owner.post_json("/api/v1/upkeep/expire", {}).json()["is_done"] is True
    n_spans = owner.post_json("/api/v1/upkeep/compact", {}).json()["n_spans"]
    assert n_spans > 200
    copy = owner.post_json("/api/v1/upkeep/span-copy", {}).json()
    assert copy["size_bytes"] > 0
    assert "/run/backup/" in copy["path"]
    report = owner.get("/api/v1/upkeep").json()
    assert report["store_bytes"] > 0
    assert report["retention"]["n_runs"] == 1
