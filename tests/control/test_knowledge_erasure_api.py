"""Erasing documents over REST: told, asked for, done by the upkeep thread, kept out, let in, and the receipt checked."""

from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import Furnished

ROOT = "/api/v1/knowledge-erasures"
WATER = {"kind": "document", "value": "hydration.md", "base": "handbook"}


def test_a_document_is_erased_and_its_receipt_is_about_it_and_nothing_else(
    owner: AsgiClient, furnished: Furnished
) -> None:
    (found,) = owner.post_json(ROOT, {**WATER, "dry_run": True}).json()["documents"]
    assert (found["path"], found["n_passages"]) == ("hydration.md", 1)
    asked = owner.post_json(ROOT, {**WATER, "reason": "ticket 1"})
    assert (asked.status, asked.json()["state"]) == (202, "waiting")
    furnished.services.knowledge_erasures.carry_out_waiting()
    done = owner.get(f"{ROOT}/{asked.json()['id']}").json()
    assert (done["state"], done.get("error")) == ("done", None)
    assert owner.get(ROOT).json()["erasures"] == [done]
    receipt = owner.get(f"/api/v1/privacy/receipts/{done['receipt']}").json()
    # The folder of documents lies in this home: the receipt tells that it is found there, without its name.
    assert "articles/[erased]" in receipt["content"]
    assert "hydration" not in str([receipt, done])
    checked = owner.post_json(f"{ROOT}/verify", {"receipt": receipt, "target": WATER}).json()
    assert (checked["is_of_subject"], checked["problems"]) == (True, [])
    other = {**WATER, "value": "sleep-basics.md"}
    assert owner.post_json(f"{ROOT}/verify", {"receipt": receipt, "target": other}).json()["problems"]
    documents = [each.path for each in furnished.services.knowledge.list_documents("handbook")]
    assert documents == ["broken.pdf", "sleep-basics.md"]
    assert len(owner.get(f"{ROOT}/kept-out?base=handbook").json()["kept_out"]) == 2
    let_in = owner.post_json(f"{ROOT}/let-in", {"base": "handbook", "path": "hydration.md"})
    assert let_in.json() == {"let_in": 1}
    again = owner.post_json(f"{ROOT}/replay", {"receipt": receipt})
    assert (again.status, again.json()["erasures"]) == (202, [])  # nothing of it is there


def test_what_is_not_there_gets_no_receipt_and_a_reason_names_nothing(owner: AsgiClient) -> None:
    assert owner.post_json(ROOT, {**WATER, "value": "nothing.md"}).status == 404
    named = owner.post_json(ROOT, {**WATER, "reason": "because of hydration.md"})
    assert (named.status, named.json()["error"]["code"]) == (400, "PS-1560")
    assert owner.post_json(f"{ROOT}/let-in", {"base": "handbook"}).status == 400
    assert owner.get(f"{ROOT}/ker_0").status == 404
