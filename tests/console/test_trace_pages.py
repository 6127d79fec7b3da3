"""Pages of single traces without a script: messages, diff, playground, and traces that are damaged or gone."""

import html
import json
import re
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from penstock.base.clock import now_ns
from penstock.console.markdown import render_markdown
from penstock.console.said import show_messages
from penstock.spec.scores import SpanScore
from penstock.spec.spans import Span
from penstock.traces.conversation import read_exchange
from tests.console.conftest import make_app, sign_in
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import QUESTION, TRACE_ID, Furnished

MS = 1_000_000


@pytest.fixture
def client(furnished: Furnished) -> AsgiClient:
    return sign_in(AsgiClient(make_app(furnished)), furnished.owner_key)


def make(number: int, parent: int | None = None, *, trace: str = "ab" * 16, **fields: Any) -> Span:
    start = now_ns() - 60_000 * MS + number * MS
    return Span(
        trace_id=trace,
        span_id=f"{number:016x}",
        parent_id=None if parent is None else f"{parent:016x}",
        **{"name": f"step {number}", "start_ns": start, "end_ns": start + 5 * MS, "status": "ok", **fields},
    )


def call(number: int, messages: list[dict[str, Any]], answer: dict[str, Any], **fields: Any) -> Span:
    body = {"model": "pocket", "temperature": 0.5, "messages": messages}
    reply = {"choices": [{"message": {"role": "assistant", **answer}}]}
    return make(number, 1, name="chat pocket", kind="llm", model="pocket", input=body, output=reply, **fields)


def test_markdown_of_models_carries_no_html_no_script_and_no_foreign_picture() -> None:
    html = render_markdown(
        "# Big\n\n<script>alert(1)</script> **b** [x](javascript:alert(1)) ![p](https://evil.example/p.png)\n\n|a|\n|-:|\n|1|"
    )
    assert html is not None
    assert "<h4>Big</h4>" in html
    assert "<strong>b</strong>" in html
    assert "<script" not in html
    assert 'href="javascript' not in html
    assert "<img" not in html
    assert "style=" not in html
    assert render_markdown("x" * 20_001) is None


def test_lines_of_a_chat_end_where_they_ended_and_those_of_a_document_flow() -> None:
    assert "<br" in str(render_markdown("one\ntwo"))
    assert "<br" not in str(render_markdown("one\ntwo", keeps_lines=False))


def test_what_went_in_stands_open_before_what_came_out(furnished: Furnished, client: AsgiClient) -> None:
    trace = "ac" * 16
    furnished.spans.append(
        [make(1, trace=trace, kind="chain", input={"q": "where is it"}, output="On its way.")]
    )
    panel = client.get(f"/traces/{trace}?span={1:016x}").text.partition("data-span-id")[2]
    assert panel.count("Input as JSON") == 1
    assert (
        panel.index("<details open><summary>Input as JSON")
        < panel.index("where is it")
        < panel.index("On its way.")
    )
    assert panel.index("On its way.") < panel.index("started")


def test_pictures_that_came_along_are_shown_and_others_are_not_fetched() -> None:
    def parts(url: str) -> Any:
        sent = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]}
        exchange = read_exchange(sent, None)
        assert exchange is not None
        return show_messages(exchange.asked)[0].parts[0]

    assert parts("data:image/png;base64,AAAA").picture == "data:image/png;base64,AAAA"
    assert parts("data:image/svg+xml;base64,AAAA").picture is None
    assert parts('data:image/png;base64,AA" onload=x').picture is None
    away = parts("https://example.org/a.png")
    assert (away.picture, away.href) == (None, "https://example.org/a.png")
    assert parts("javascript:alert(1)").href is None


def test_the_messages_view_shows_what_each_turn_added(furnished: Furnished, client: AsgiClient) -> None:
    asked = {"id": "c1", "function": {"name": "weather", "arguments": '{"city": '}}
    first = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Is it cold?"}]
    second = [
        *first,
        {"role": "assistant", "tool_calls": [asked]},
        {"role": "tool", "tool_call_id": "c1", "content": "seven"},
    ]
    furnished.spans.append(
        [
            make(1, kind="agent", name="agent", agent="scout"),
            call(2, first, {"content": None, "tool_calls": [asked]}),
            call(3, second, {"content": "**Cold.**"}),
        ]
    )
    text = client.get(f"/traces/{'ab' * 16}?view=messages").text
    one, two = text.split('data-call="')[1:]
    assert "Is it cold?" in one
    assert "the arguments are not valid JSON" in one
    assert "3 messages sent again" in two
    assert "Is it cold?" not in two.split('class="panel"')[0]
    assert "seven" in two
    assert "weather" in two  # the result names its tool though the call was made a turn before
    assert "<strong>Cold.</strong>" in two
    fragment = client.get(f"/traces/{'ab' * 16}/messages?span={3:016x}")
    assert fragment.status == 200
    assert "<main" not in fragment.text


def test_a_first_call_is_compared_with_the_last_one_of_the_session(
    furnished: Furnished, client: AsgiClient
) -> None:
    asked = {"role": "user", "content": "Is it cold?"}
    early = now_ns() - 600_000 * MS
    again = [asked, {"role": "assistant", "content": "Yes."}, {"role": "user", "content": "How cold?"}]
    one = [
        make(1, session_id="s-1", start_ns=early, trace="aa" * 16),
        call(2, [asked], {"content": "Yes."}, trace="aa" * 16),
    ]
    furnished.spans.append([*one, make(1, session_id="s-1"), call(2, again, {"content": "Seven."})])
    text = client.get(f"/traces/{'ab' * 16}/messages").text
    assert "2 messages sent again" in text
    assert "How cold?" in text
    assert "Is it cold?" not in text
    assert f"/traces/{'aa' * 16}?span={2:016x}&amp;view=messages" in text


def test_a_ring_of_parents_and_a_lost_parent_are_drawn_and_told(
    furnished: Furnished, client: AsgiClient
) -> None:
    furnished.spans.append([make(1, 3), make(2, 1), make(3, 2), make(4, 99)])
    text = client.get(f"/traces/{'ab' * 16}").text
    assert text.count('class="fall-row open"') == 4
    assert "1 ring of spans that name each other as parents" in text
    assert "1 span names a parent that is not here" in text
    assert "Its parent never arrived" in client.get(f"/traces/{'ab' * 16}?span={4:016x}").text


def test_a_payload_that_is_gone_says_so_and_the_facts_stay(furnished: Furnished, client: AsgiClient) -> None:
    furnished.spans.append([make(1, kind="llm", model="pocket", payload_dropped=True)])
    text = client.get(f"/traces/{'ab' * 16}").text
    assert "The payload of this span is gone" in text
    assert "<dd>pocket</dd>" in text
    assert "was dropped" in client.get(f"/traces/{'ab' * 16}?view=messages").text


def test_scores_stand_at_what_they_judge_with_who_judged(furnished: Furnished, client: AsgiClient) -> None:
    judged = SpanScore(
        name="helpful",
        value=0.25,
        source="human",
        scorer="bo",
        comment="Too long.",
        time_ns=now_ns(),
        trace_id="ab" * 16,
        span_id=f"{1:016x}",
    )
    furnished.spans.append([make(1), make(9, 1, kind="evaluation", name="score helpful", scores=[judged])])
    text = client.get(f"/traces/{'ab' * 16}").text
    assert text.count('class="fall-row open"') == 1
    assert re.search(r"helpful <b>0\.25</b>.*bo", text)
    assert "Too long." in text


def test_two_traces_are_compared_and_the_one_before_is_proposed(client: AsgiClient) -> None:
    text = client.get(f"/traces/diff?a={TRACE_ID}").text
    assert "A is the trace before B of the route handbook" in text
    assert "chat pocket" in text
    assert client.get("/traces/diff?a=nothing").status == 400
    everything = client.get(f"/traces/diff?a={TRACE_ID}&b={TRACE_ID}&all=true").text
    assert len(re.findall(r"<td[^>]*>both</td>", everything)) == 4
    assert "The same on both sides" in everything


def test_a_recorded_request_opens_in_the_playground(furnished: Furnished, client: AsgiClient) -> None:
    talk = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Two?"},
    ]
    furnished.spans.append([make(1), call(2, talk, {"content": "Also."}, route="pocket")])
    page = client.get(f"/traces/{'ab' * 16}?span={2:016x}").text
    href = re.search(r'href="(/playground\?span=[^"]+)"', page)
    assert href is not None
    text = client.get(href[1]).text
    assert ">Be short.</textarea>" in text
    assert ">Two?</textarea>" in text
    assert 'value="0.5"' in text
    assert '<option value="pocket" data-version="model:pocket@2 sha256:77d2c8e9f001" selected>' in text
    earlier = re.search(r'data-earlier="([^"]+)"', text)
    assert earlier is not None
    told = json.loads(earlier[1].replace("&#34;", '"'))
    assert told == [{"role": "user", "content": "One?"}, {"role": "assistant", "content": "Yes."}]
    assert "No route is called" not in text


def test_the_playground_says_when_the_recorded_model_has_no_route(
    furnished: Furnished, client: AsgiClient
) -> None:
    talk = [{"role": "user", "content": "One?"}]
    furnished.spans.append([make(1), call(2, talk, {"content": "Yes."}, route="gone")])
    text = client.get(f"/playground?span={'ab' * 16}/{2:016x}").text
    assert re.search(r"No route is called <code>gone</code>, so <code>\w+</code> is chosen", text)


def test_a_trace_in_which_no_model_was_asked_has_its_row_in_every_list(
    furnished: Furnished, client: AsgiClient
) -> None:
    moment = now_ns()
    trace = "ad" * 16
    furnished.spans.append(
        [make(1, trace=trace, kind="tool", name="look up", start_ns=moment, end_ns=moment + 1)]
    )
    for path in ("/", "/traces", "/traces?q=model:none", "/traces?cols=name,model,provider"):
        reply = client.get(path)
        assert reply.status == 200, path
    assert f"/traces/{trace}" in client.get("/traces").text


@pytest.mark.parametrize("cost", [Decimal("0.01"), Decimal(0), None])
def test_what_was_billed_to_a_key_and_a_route_is_told_on_their_pages(
    furnished: Furnished, client: AsgiClient, cost: Decimal | None
) -> None:
    asked = call(2, [{"role": "user", "content": "One?"}], {"content": "Yes."}, route="pocket")
    key = furnished.services.keys.list()[0]
    billed = {"service": "gateway", "key_id": key.id, "cost_usd": cost, "cost_source": "settings"}
    furnished.spans.append([make(1), msgspec.structs.replace(asked, **billed)])
    for path in ("/keys", f"/keys/{key.id}", "/routes", "/", "/cost"):
        assert client.get(path).status == 200, path


def test_a_talk_of_thousands_of_messages_stays_a_page(furnished: Furnished, client: AsgiClient) -> None:
    talk = [
        {"role": ("user", "assistant")[number % 2], "content": f"word {number} " * 200}
        for number in range(4001)
    ]
    furnished.spans.append([make(1), call(2, talk, {"content": "Enough."})])
    for path in (f"?span={2:016x}", "?view=messages"):
        text = client.get(f"/traces/{'ab' * 16}{path}").text
        assert "word 4000" in text
        assert "are in the raw payload" in text
        assert len(text) < 1_000_000


def test_a_large_trace_is_there_at_once_and_its_rows_without_a_script_on_demand(
    furnished: Furnished, client: AsgiClient
) -> None:
    furnished.spans.append([make(1), *(make(number, 1) for number in range(2, 3203))])
    light = client.get(f"/traces/{'ab' * 16}").text
    assert 'class="fall-row open"' not in light
    assert "Reading 3,202 spans" in light
    assert "?rows=2000" in light
    whole = client.get(f"/traces/{'ab' * 16}?rows=2000").text
    assert whole.count('class="fall-row open"') == 2000
    assert "Showing the first 2,000 of 3,202 rows" in whole


def test_what_a_script_draws_anew_does_not_make_the_page_long(
    furnished: Furnished, client: AsgiClient
) -> None:
    furnished.spans.append([make(1), *(make(number, 1) for number in range(2, 902))])
    path = f"/traces/{'ab' * 16}"
    text = client.get(path).text
    assert text.count('class="fall-row open"') == 200
    assert "Showing the first 200 of 901 rows" in text
    assert "?rows=2000" in text
    links = re.findall(r'class="fall-row open" href="([^"]+)"', client.get(f"{path}?rows=900").text)
    kept = client.get(path + html.unescape(links[700])).text  # a click without scripts
    assert kept.count('class="fall-row open"') == 900
    span = re.search(r"span=(\w+)", links[700])
    assert span is not None
    assert f'data-span="{span[1]}" aria-current="true"' in kept
    fewer = client.get(f"{path}?span={span[1]}").text
    assert f'href="?rows=2000&amp;span={span[1]}"' in fewer
    messages = client.get(f"{path}?view=messages").text
    assert 'class="fall-row open"' not in messages
    assert "Showing the first" not in messages


def test_the_skeleton_is_columns_and_an_unchanged_one_is_not_sent_again(
    client: AsgiClient, furnished: Furnished
) -> None:
    path = f"/api/v1/traces/{TRACE_ID}/skeleton"
    reply = client.get(path)
    columns = json.loads(reply.body)
    assert (columns["n_rows"], columns["depths"], columns["is_live"]) == (4, [0, 1, 2, 2], False)
    assert QUESTION not in reply.text
    again = client.get(path, **{"if-none-match": reply.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    facts = json.loads(client.get(f"/api/v1/traces/{TRACE_ID}/spans?ids={columns['ids'][3]},ffff").body)
    assert [span["name"] for span in facts["spans"]] == ["chat pocket"]
    assert client.get(f"/api/v1/traces/{TRACE_ID}/spans?ids=" + ",".join(["a" * 16] * 501)).status == 400
    file = client.get(f"/api/v1/traces/{TRACE_ID}/spans/{columns['ids'][0]}/payload?download=true")
    assert file.headers["content-disposition"].endswith('.json"')


def test_a_trace_that_is_still_going_on_says_so(furnished: Furnished, client: AsgiClient) -> None:
    now = now_ns()
    furnished.spans.append([make(2, 1, start_ns=now - 2000 * MS, end_ns=now - 1000 * MS)])
    assert json.loads(client.get(f"/api/v1/traces/{'ab' * 16}/skeleton").body)["is_live"] is True


def nested(depth: int) -> Any:
    value: Any = "deep"
    for _ in range(depth):
        value = [value]
    return value


ODD: list[Any] = [
    [{"name": "city", "type": ["string", "null"]}],
    {"role": "user", "parts": [{"functionCall": "auto"}]},
    {"contents": [{"role": "user", "parts": [{"functionResponse": "x"}]}]},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://[bad"}}]}]},
    {"documents": [{"score": 10**400}]},
    {"messages": [{"role": nested(400), "content": nested(400)}]},
    nested(900),
]


def test_payloads_of_unexpected_shape_take_no_page_along(furnished: Furnished, client: AsgiClient) -> None:
    trace = "ab" * 16
    fields = [{"input": odd, "output": odd} for odd in ODD]
    llm = {"kind": "llm", "model": "pocket"}
    furnished.spans.append(
        [
            make(1, kind="agent", **fields[0]),
            call(2, [{"role": "user", "content": "Is it cold?"}], {"content": "Seven degrees."}),
            *(make(10 + at, 1, **llm, **each) for at, each in enumerate(fields)),
            *(make(30 + at, 1, kind="retrieval", **each) for at, each in enumerate(fields)),
        ]
    )
    odd = [f"{start + at:016x}" for start in (10, 30) for at in range(len(ODD))]
    pages = [f"/traces/{trace}", f"/traces/{trace}?view=messages", f"/playground?span={trace}/{odd[0]}"]
    pages += [f"/traces/{trace}/spans/{span}" for span in odd]
    pages += [f"/traces/diff?a={trace}/{2:016x}&b={trace}/{span}" for span in odd[: len(ODD)]]
    assert {page: client.get(page).status for page in pages} == dict.fromkeys(pages, 200)
    assert "Seven degrees." in client.get(f"/traces/{trace}?view=messages").text
