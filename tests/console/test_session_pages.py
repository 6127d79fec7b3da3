"""Sessions and users as pages: what was said in each turn, told once, and links that lead on."""

import re

import pytest

from penstock.console.exchanges import read_exchange
from tests.console.conftest import make_app, sign_in
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import ANSWER, QUESTION, TRACE_ID, Furnished


def test_a_turn_shows_only_what_was_new_in_it() -> None:
    sent = {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "first"},
            {"role": "assistant", "content": "one"},
            {"role": "user", "content": "second"},
        ]
    }
    exchange = read_exchange(sent, {"choices": [{"message": {"role": "assistant", "content": "two"}}]})
    assert [turn.text for turn in exchange.asked] == ["second"]
    assert [turn.text for turn in exchange.answered] == ["two"]
    assert [turn.text for turn in exchange.standing] == ["Be brief."]
    assert (exchange.n_before, exchange.raw_input, exchange.raw_output) == (2, None, None)


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        (
            {
                "system": "Be kind.",
                "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
            },
            {"role": "assistant", "content": [{"type": "text", "text": "Hello!"}], "stop_reason": "end_turn"},
        ),
        (
            {"input": [{"role": "user", "content": "Hi"}], "instructions": "Be kind."},
            {
                "output": [
                    {
                        "type": "message",
                        "role": "assistant",
                        "content": [{"type": "output_text", "text": "Hello!"}],
                    }
                ]
            },
        ),
        (
            {
                "systemInstruction": {"parts": [{"text": "Be kind."}]},
                "contents": [
                    {"role": "user", "parts": [{"text": "before"}]},
                    {"role": "model", "parts": [{"text": "then"}]},
                    {"role": "user", "parts": [{"text": "Hi"}]},
                ],
            },
            {"candidates": [{"content": {"role": "model", "parts": [{"text": "Hello!"}]}}]},
        ),
        (
            [
                {"role": "system", "parts": [{"type": "text", "content": "Be kind."}]},
                {"role": "user", "parts": [{"type": "text", "content": "Hi"}]},
            ],
            [{"role": "assistant", "parts": [{"type": "text", "content": "Hello!"}]}],
        ),
    ],
    ids=["anthropic", "responses", "gemini", "opentelemetry"],
)
def test_sessions_of_every_dialect_read_as_talk(sent: object, received: object) -> None:
    exchange = read_exchange(sent, received)
    assert [turn.text for turn in exchange.standing] == ["Be kind."]
    assert [turn.text for turn in exchange.asked] == ["Hi"]
    assert [turn.text for turn in exchange.answered] == ["Hello!"]
    assert (exchange.raw_input, exchange.raw_output) == (None, None)


def test_a_function_called_with_one_text_was_asked_that() -> None:
    exchange = read_exchange({"q": "Where is it?"}, "On its way.")
    assert [turn.text for turn in (*exchange.asked, *exchange.answered)] == ["Where is it?", "On its way."]
    assert exchange.raw_input is None


def test_what_is_no_conversation_is_shown_as_it_is() -> None:
    exchange = read_exchange({"city": "Oslo", "days": 3}, [1, 2])
    assert exchange.asked == exchange.answered == ()
    assert exchange.raw_input is not None
    assert '"Oslo"' in exchange.raw_input
    assert exchange.raw_output is not None


def test_sessions_are_listed_with_their_first_question_turns_and_money(visitor: AsgiClient) -> None:
    text = visitor.get("/sessions?range=24h").text
    assert QUESTION in text
    assert 'href="/sessions/talk/0"' in text
    assert 'href="/users/ada"' in text
    assert "No session" in visitor.get("/sessions?text=nothing-like-it").text


def test_a_session_reads_as_the_conversation_it_was(visitor: AsgiClient) -> None:
    text = visitor.get("/sessions/talk/0").text
    assert text.index(QUESTION) < text.index(ANSWER)
    assert f'href="/traces/{TRACE_ID}"' in text
    assert len(re.findall(r">Turn \d+<", text)) >= 4
    assert visitor.get("/sessions/nobody").status == 404


def test_what_users_wrote_is_shown_and_never_run(furnished: Furnished) -> None:
    client = sign_in(AsgiClient(make_app(furnished)), furnished.owner_key)
    evil = '"><script>alert(1)</script>'
    span = furnished.spans.get_trace(TRACE_ID)[0]
    furnished.spans.append(
        [
            type(span)(
                trace_id="ab" * 16,
                span_id="ab" * 8,
                name="chat",
                kind="llm",
                start_ns=span.start_ns,
                session_id=evil,
                user_id=evil,
                input={"messages": [{"role": evil, "content": evil}]},
            )
        ]
    )
    for path in ("/sessions", "/users", "/users/%22%3E%3Cscript%3Ealert(1)%3C/script%3E"):
        reply = client.get(path)
        assert reply.status == 200, path
        assert "<script>alert" not in reply.text, path
    found = re.search(r'href="(/sessions/[^"]*script[^"]*)"', client.get("/sessions").text)
    assert found is not None
    reply = client.get(found[1].replace("&amp;", "&"))
    assert (reply.status, "<script>alert" in reply.text) == (200, False)


def test_a_user_leads_to_sessions_traces_and_cost(visitor: AsgiClient) -> None:
    text = visitor.get("/users/ada?range=7d").text
    for part in ('href="/sessions/talk/0"', 'href="/cost?user=ada', "q=user%3Aada", "data-plot"):
        assert part in text
    assert visitor.get("/users/nobody").status == 404


def test_on_the_first_day_the_pages_say_how_a_session_comes_about(unfurnished: Furnished) -> None:
    client = sign_in(AsgiClient(make_app(unfurnished)), unfurnished.owner_key)
    assert "session.id" in client.get("/sessions").text
    assert "penstock key create" in client.get("/users").text
