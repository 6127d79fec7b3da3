"""Pages of prompts and variants in process: each stands, moves need what they need, drafts are checked and nothing is asked twice."""

import json
import re
from typing import Any

import pytest

from penstock.base.errors import InvalidInput
from penstock.console.variant_calls import build_body, decode_call, decode_run, make_specs
from tests.console.conftest import make_app, sign_in
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import Furnished
from tests.fixtures.prompted import NAME, furnish_prompts
from tests.fixtures.reviewed import NAME as ROWS
from tests.fixtures.reviewed import furnish_datasets

MOVED = "moved-prompt"


@pytest.fixture(scope="module")
def client(house: Furnished) -> AsgiClient:
    furnish_datasets(house.services)
    furnish_prompts(house.services)
    furnish_prompts(house.services, MOVED)
    return sign_in(AsgiClient(make_app(house)), house.owner_key)


def token_of(client: AsgiClient, page: str = "/prompts") -> str:
    found = re.search(r'name="csrf-token" content="([^"]+)"', client.get(page).text)
    assert found is not None
    return found[1]


def ask(client: AsgiClient, path: str, body: Any) -> Any:
    headers = {"x-csrf-token": token_of(client), "content-type": "application/json"}
    return client.send("POST", path, body=json.dumps(body).encode(), headers=headers)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/prompts", f"/prompts/{NAME}/2"),
        (f"/prompts/{NAME}/3", '<span class="t-value">{{ tone }}</span>'),
        (f"/prompts/{NAME}/3", f"/traces?q=version.prompt%3A{NAME}%3A3&amp;range=all"),
        (f"/prompts/{NAME}/3", "callers get it alone"),
        (f"/prompts/{NAME}/1?tab=use", f"penstock prompt test {NAME}@1"),
        (f"/prompts/{NAME}/2?tab=use", f"prompt:{NAME}@prod"),
        (f"/prompts/{NAME}/3?tab=history", "No gate has passed version 3 yet"),
        (f"/prompts/{NAME}/2?tab=history", "without evidence"),
        (f"/prompts/{NAME}/diff?base=1&other=3", "parameters.max_tokens"),
        (f"/prompts/{NAME}/edit", "Save as version 4"),
        ("/prompts/new", "New prompt"),
        (f"/playground/compare?variant=prompt:{NAME}@2&variant=prompt:{NAME}", f"prompt:{NAME}@2"),
    ],
)
def test_each_page_stands_and_says_what_it_is_for(client: AsgiClient, path: str, said: str) -> None:
    reply = client.get(path)
    assert reply.status == 200
    assert said in reply.text


def test_a_first_day_leads_to_the_button_and_the_command(unfurnished: Furnished) -> None:
    page = sign_in(AsgiClient(make_app(unfurnished)), unfurnished.owner_key).get("/prompts").text
    assert "penstock prompt create answer answer.prompt" in page
    assert 'href="/prompts/new"' in page


def test_a_name_or_an_alias_leads_to_its_version(client: AsgiClient) -> None:
    for path, number in ((NAME, 2), (f"{NAME}/canary", 3), (f"{NAME}/latest", 3)):
        reply = client.get(f"/prompts/{path}")
        assert (reply.status, reply.headers["location"]) == (303, f"/prompts/{NAME}/{number}")


def test_what_is_not_there_is_told(client: AsgiClient) -> None:
    for path in ("none", f"{NAME}/99", f"{NAME}/nope", f"{NAME}/diff?base=1&other=99", "none/edit"):
        assert client.get(f"/prompts/{path}").status == 404
    assert client.get("/playground/compare?variant=prompt:none@1").status == 404


def test_values_make_messages_without_asking_a_model(client: AsgiClient) -> None:
    page = client.get(f"/prompts/{NAME}/2?tab=render&go=1&v.mail=Where+is+it%3F&v.boxes=%5B%22one%22%5D").text
    assert "Mail:\nWhere is it?" in page
    assert "- one\nAnswer with one box" in page
    assert re.search(r"about \d+ tokens", page)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("go=1", "&#39;mail&#39; is missing"),
        ("go=1&v.mail=x&v.boxes=%5B1", "&#39;boxes&#39; must be a list"),
        ("go=1&v.mail=x&v.tone=rude", "must be one of"),
        (f"dataset={ROWS}&case=none", "has no row"),
    ],
)
def test_values_that_do_not_fit_are_told_in_place(client: AsgiClient, values: str, said: str) -> None:
    page = client.get(f"/prompts/{NAME}/2?tab=render&{values}").text
    assert said in page
    assert "What would be sent" not in page


def test_a_protected_alias_moves_with_a_reason_only_and_back(client: AsgiClient, house: Furnished) -> None:
    where = f"/prompts/{MOVED}/3"
    fields = {"csrf_token": token_of(client), "alias": "prod", "gate": "", "reason": ""}
    refused = client.post_form(f"{where}/move", fields)
    assert refused.status == 403
    assert "is protected and no evidence was given" in refused.text
    assert house.services.prompts.aliases(MOVED)["prod"] == 2
    unknown = client.post_form(f"{where}/move", {**fields, "gate": "gate_none", "reason": "kept"})
    assert unknown.status == 404
    assert 'value="kept"' in unknown.text
    moved = client.post_form(f"{where}/move", {**fields, "reason": "By <b>hand</b>"})
    assert moved.status == 303
    assert house.services.prompts.aliases(MOVED)["prod"] == 3
    assert ("prompt", MOVED, "prod", 3) in house.moved
    assert "By &lt;b&gt;hand&lt;/b&gt;" in client.get(f"{where}?tab=history").text
    assert client.post_form(f"{where}/rollback", fields).status == 303
    assert house.services.prompts.aliases(MOVED)["prod"] == 2


def test_markup_in_prompts_stays_text(client: AsgiClient, house: Furnished) -> None:
    content = {
        "description": "<i>d</i>",
        "messages": [{"role": "user", "content": "<script>alert(1)</script> {{ x }}"}],
        "variables": {"x": {"description": "<i>v</i>", "choices": ["<i>c</i>"]}},
    }
    reply = ask(client, "/api/v1/prompts/markup/versions", {"content": content, "note": "<i>n</i>"})
    assert reply.status == 201
    for tab in ("", "?tab=render&v.x=%3Ci%3Ec%3C/i%3E", "?tab=use", "?tab=history", "/edit"):
        path = "/prompts/markup/edit" if tab == "/edit" else f"/prompts/markup/1{tab}"
        page = client.get(path).text
        assert "<script>alert" not in page
        assert "<i>" not in page


def test_a_draft_is_checked_without_being_saved(client: AsgiClient) -> None:
    content = {"messages": [{"role": "user", "content": "{{ a }"}]}
    found = json.loads(ask(client, "/prompts/-/check", {"content": content}).text)
    assert found["problems"][0]["place"] == "message"
    assert json.loads(ask(client, "/prompts/-/check", {"content": {"mesages": []}}).text)["problems"]
    sound = {"messages": [{"role": "user", "content": "hello"}]}
    for name, said in (("Bad Name", "Bad Name"), (NAME, "already"), ("fresh", None)):
        problem = json.loads(ask(client, "/prompts/-/check", {"content": sound, "name": name}).text)[
            "name_problem"
        ]
        assert problem is None if said is None else said in problem


def test_the_difference_of_a_draft_is_shown_before_it_is_saved(client: AsgiClient, house: Furnished) -> None:
    content = {
        "messages": [{"role": "user", "content": "Sum up in two lines:\n{{ text }}"}],
        "variables": {"text": {}},
    }
    page = ask(client, "/prompts/-/difference", {"base": f"prompt:{NAME}-summary@1", "content": content}).text
    assert "<del>one line</del>" in page or "<del>one</del>" in page
    assert "<html" not in page
    assert len(house.services.prompts.list_versions(f"{NAME}-summary")) == 1


def test_a_key_that_may_only_call_sees_no_prompt(house: Furnished) -> None:
    key = house.services.keys.create("reader", ("prompts",)).key
    reader = AsgiClient(make_app(house))
    bearer = {"authorization": f"Bearer {house.call_key}"}
    for path in ("/prompts", f"/prompts/{NAME}/1", "/prompts/new", "/playground/compare"):
        assert reader.get(path, **bearer).status == 403
    can_read = {"authorization": f"Bearer {key}"}
    assert reader.get(f"/prompts/{NAME}/1", **can_read).status == 200
    assert reader.get(f"/prompts/{NAME}/edit", **can_read).status == 403


# -- variants


def test_a_saved_variant_is_asked_by_its_name_and_an_unsaved_one_as_it_renders(
    house: Furnished, client: AsgiClient
) -> None:
    prompts = house.services.prompts
    saved = {
        "prompt": f"prompt:{NAME}@2",
        "model": "handbook",
        "variables": {"mail": "x"},
        "parameters": {"temperature": 1},
    }
    body = json.loads(build_body(decode_call(json.dumps(saved).encode()), prompts))
    assert body["model"] == f"prompt:{NAME}@2"
    assert (body["prompt_model"], body["prompt_variables"], body["temperature"]) == (
        "handbook",
        {"mail": "x"},
        1,
    )
    written = {
        "content": {"messages": [{"role": "user", "content": "Is it {{ x }}?"}], "variables": {"x": {}}},
        "model": "pocket",
        "variables": {"x": "{{ y }}"},
    }
    body = json.loads(build_body(decode_call(json.dumps(written).encode()), prompts))
    assert body["messages"] == [{"role": "user", "content": "Is it {{ y }}?"}]
    assert (body["model"], body["stream"]) == ("pocket", True)


@pytest.mark.parametrize(
    "call",
    [
        {},
        {"prompt": "prompt:a@1", "content": {"messages": []}},
        {"prompt": "prompt:a@1", "parameters": {"stream": False}},
        {"prompt": "prompt:a@1", "key": "x"},
        [],
    ],
)
def test_a_variant_that_makes_no_sense_is_refused(call: Any) -> None:
    with pytest.raises(InvalidInput):
        decode_call(json.dumps(call).encode())


def test_a_variant_without_model_or_text_is_refused(house: Furnished, client: AsgiClient) -> None:
    for content, model in (
        ([{"role": "user", "content": "hi"}], None),
        ([{"role": "user", "content": " "}], "pocket"),
    ):
        raw = json.dumps({"content": {"messages": content}, "model": model}).encode()
        with pytest.raises(InvalidInput):
            build_body(decode_call(raw), house.services.prompts)


def test_variants_become_evaluations_of_the_same_cases() -> None:
    run = decode_run(
        json.dumps(
            {
                "dataset": ROWS,
                "scorer": "token_f1",
                "limit": 5,
                "variants": [
                    {"prompt": "prompt:a@1"},
                    {"prompt": "prompt:a@2", "model": "pocket", "parameters": {"temperature": 0}},
                ],
            }
        ).encode()
    )
    one, two = make_specs(run, tag="play_1")
    assert (one.target.model, one.target.prompt) == ("prompt:a@1", None)
    assert (two.target.model, two.target.prompt, two.target.parameters) == (
        "pocket",
        "prompt:a@2",
        {"temperature": 0},
    )
    assert one.dataset == two.dataset == f"dataset:{ROWS}"
    assert (one.limit, one.seed) == (two.limit, two.seed)
    for wrong in (
        {"variants": []},
        {"variants": [{"prompt": "handbook"}]},
        {"variants": [{"prompt": "prompt:a@1"}], "limit": 0},
    ):
        with pytest.raises(InvalidInput):
            decode_run(json.dumps({"dataset": ROWS, "scorer": "token_f1", **wrong}).encode())


def test_evaluations_start_together_or_not_at_all(client: AsgiClient, house: Furnished) -> None:
    good = {"prompt": f"prompt:{NAME}@1"}
    reply = ask(
        client,
        "/playground/evaluate",
        {"dataset": ROWS, "scorer": "token_f1", "variants": [good, {"prompt": f"prompt:{NAME}@2"}]},
    )
    assert reply.status == 201
    told = json.loads(reply.text)
    assert len(told["evaluations"]) == 2
    assert [client.get(href).status for href, _ in told["links"]] == [200, 200]
    before = len(house.services.evaluations.list().rows)
    for wrong in (
        {"variants": [good, {"prompt": f"prompt:{NAME}@99"}]},
        {"dataset": "none"},
        {"scorer": "none"},
    ):
        body = {"dataset": ROWS, "scorer": "token_f1", "variants": [good], **wrong}
        assert ask(client, "/playground/evaluate", body).status in {400, 404, 422}
    assert len(house.services.evaluations.list().rows) == before


def test_cases_are_walked_by_place_and_found_by_id(client: AsgiClient) -> None:
    first = json.loads(client.get(f"/playground/case?dataset={ROWS}").text)
    assert (first["id"], first["place"]) == ("q000", 0)
    assert first["inputs"]["input"].startswith("How many hours")
    last = json.loads(client.get(f"/playground/case?dataset={ROWS}&place=999").text)
    assert last["place"] == last["n_rows"] - 1
    named = json.loads(client.get(f"/playground/case?dataset={ROWS}&case=q002").text)
    assert (named["id"], named["place"]) == ("q002", 2)
    assert client.get(f"/playground/case?dataset={ROWS}&case=none").status == 404
