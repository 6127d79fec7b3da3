"""Alerts as pages: how each stands, its value against its bounds, silence and test, and the forms."""

import json
import re

from penstock.base.clock import now_ns
from penstock.console.alert_forms import (
    draft_of_channel,
    draft_of_rule,
    read_length,
    to_channel,
    to_rule,
    write_length,
)
from penstock.console.alert_words import draw_rule, draw_strip, say_length, say_rule, say_threshold
from penstock.monitors.types import ChannelContent, RuleContent, Threshold, Transition
from tests.console.conftest import make_app, sign_in
from tests.console.test_dashboard_pages import form_token
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import Furnished

RULE = RuleContent(
    measure="error_share",
    window_s=3600,
    alert=Threshold(above=0.05, recover=0.02),
    warning=Threshold(above=0.02),
    subject="trace",
    where="route:handbook",
    title="Failing",
    text="Look at <b>providers</b>.",
    labels={"team": "care"},
    every_s=60,
    remind_s=7200,
)
FORM = {
    "name": "failing",
    "title": "Failing",
    "measure": "error_share",
    "subject": "trace",
    "where": "",
    "window": "1h",
    "side": "above",
    "alert": "0.05",
    "alert_recover": "0,02",
    "warning": "",
    "min_n": "1",
    "for_evaluations": "1",
    "no_data": "keep",
    "severity": "critical",
    "labels": "team=care",
    "text": "",
    "enabled": "yes",
    "version": "0",
}


def make_transition(at_ns: int, before: str, after: str, **fields: object) -> Transition:
    return Transition(
        id=f"tr_{at_ns}",
        rule="failing",
        before=before,  # type: ignore[arg-type]
        after=after,  # type: ignore[arg-type]
        at_ns=at_ns,
        value=0.1,
        n=10,
        since_ns=0,
        until_ns=at_ns,
        search="",
        subject="trace",
        reason="because",
        **fields,  # type: ignore[arg-type]
    )


def test_a_rule_goes_through_its_form_unchanged() -> None:
    assert to_rule(draft_of_rule("failing", RULE, 3)) == RULE
    below = RuleContent(measure="output_rate", window_s=90, alert=Threshold(below=20.0))
    assert to_rule(draft_of_rule("slow", below, 1)) == below


def test_a_channel_goes_through_its_form_without_what_its_kind_has_no_use_for() -> None:
    mail = ChannelContent(
        kind="email",
        host="mail.example.com",
        port=25,
        security="none",
        sender="a@example.com",
        recipients=("b@example.com", "c@example.com"),
        allow_private=True,
    )
    hook = ChannelContent(kind="webhook", url="https://example.com/x", signing_secret="alert-key")
    for content in (mail, hook):
        assert to_channel(draft_of_channel("x", content, 1)) == content


def test_lengths_of_time_read_and_write() -> None:
    assert [read_length(text, "x") for text in ("90s", "10m", "2h", "7d", "1w")] == [
        90,
        600,
        7200,
        604_800,
        604_800,
    ]
    assert [write_length(seconds) for seconds in (90, 600, 7200, 86_400)] == ["90s", "10m", "2h", "1d"]
    assert [say_length(seconds) for seconds in (90, 600, 3600, 604_800)] == [
        "90 seconds",
        "10 minutes",
        "an hour",
        "a week",
    ]


def test_a_rule_reads_as_a_sentence() -> None:
    assert say_rule(RULE) == "Error share of traces with route:handbook, over an hour"
    assert say_threshold(RULE.alert, "share") == "above 5.0 %, back at 2.0 %"


def test_the_strip_shows_each_state_as_long_as_it_lasted() -> None:
    history = [
        make_transition(90, "alert", "ok"),
        make_transition(85, "ok", "alert", is_test=True),
        make_transition(40, "ok", "alert"),
        make_transition(-20, "unknown", "ok"),
    ]
    strip = draw_strip(history, "ok", 0, 100)
    assert [(each.state, each.x, each.width) for each in strip] == [
        ("ok", 0.0, 40.0),
        ("alert", 40.0, 50.0),
        ("ok", 90.0, 10.0),
    ]
    assert [each.state for each in draw_strip([], "unknown", 0, 100)] == ["unknown"]


def test_without_alerts_the_page_says_how_to_make_one(visitor: AsgiClient) -> None:
    text = visitor.get("/alerts").text
    assert "penstock alert create" in text
    assert 'href="/alerts/new"' in text


def test_a_rule_is_previewed_saved_looked_at_silenced_and_deleted(furnished: Furnished) -> None:
    client = sign_in(AsgiClient(make_app(furnished)), furnished.owner_key)
    token = form_token(client, "/alerts/new")
    preview = client.post_form("/alerts/edit", {**FORM, "csrf_token": token, "step": "preview"})
    assert preview.status == 200
    assert "Error share of traces, over an hour: now" in preview.text
    assert list(furnished.services.alerts.list()) == []
    saved = client.post_form("/alerts/edit", {**FORM, "csrf_token": token, "step": "save"})
    assert (saved.status, saved.headers["location"].partition("?")[0]) == (303, "/alerts/failing")
    page = client.get("/alerts/failing").text
    for part in ("Failing", "above 5.0 %", "back at 2.0 %", "data-plot=", "Silence"):
        assert part in page
    assert "Failing" in client.get("/alerts").text
    quiet = client.post_form("/alerts/failing/silence", {"csrf_token": token, "for_s": "3600"})
    assert quiet.status == 303
    assert furnished.services.alerts.get("failing").is_silenced
    client.post_form("/alerts/failing/silence", {"csrf_token": token})
    assert not furnished.services.alerts.get("failing").is_silenced
    untold = client.post_form("/alerts/failing/test", {"csrf_token": token})
    assert "notifies" in untold.headers["location"]
    gone = client.post_form("/alerts/edit", {**FORM, "csrf_token": token, "version": "1", "step": "delete"})
    assert gone.status == 303
    assert client.get("/alerts/failing").status == 404


def test_what_is_wrong_with_a_rule_is_told_and_nothing_is_lost(visitor: AsgiClient) -> None:
    token = form_token(visitor, "/alerts/new")
    for wrong, told in (
        ({"alert": "much"}, "must be a number"),
        ({"window": "soon"}, "no length of time"),
        ({"measure": "mood"}, "mood"),
        ({"where": "modle:x"}, "<mark>modle</mark>"),
        ({"labels": "care"}, "NAME=VALUE"),
    ):
        reply = visitor.post_form("/alerts/edit", {**FORM, **wrong, "csrf_token": token, "step": "save"})
        assert (reply.status, told in reply.text) == (400, True), wrong
        assert 'value="team=care"' in reply.text or "labels" in wrong


def test_channels_are_made_tested_and_named_in_the_form_of_rules(furnished: Furnished) -> None:
    client = sign_in(AsgiClient(make_app(furnished)), furnished.owner_key)
    token = form_token(client, "/alerts/channels/new")
    form = {"csrf_token": token, "name": "ops", "kind": "webhook", "url": "https://example.com/hook"}
    assert client.post_form("/alerts/channels/edit", {**form, "step": "save"}).status == 303
    assert "https://example.com/hook" in client.get("/alerts").text
    assert 'name="notify:ops"' in client.get("/alerts/new").text
    tested = client.post_form("/alerts/channels/edit", {**form, "version": "1", "step": "test"})
    assert tested.status == 303
    assert furnished.services.channels.count_messages()["pending"] == 1
    wrong = client.post_form("/alerts/channels/edit", {**form, "name": "x", "url": "ftp://a", "step": "save"})
    assert (wrong.status, 'value="ftp://a"' in wrong.text) == (400, True)


def test_a_state_is_told_in_a_word_and_never_by_colour_alone(furnished: Furnished) -> None:
    furnished.services.alerts.put("failing", RULE, actor="ada")
    client = sign_in(AsgiClient(make_app(furnished)), furnished.owner_key)
    text = client.get("/alerts").text
    assert re.search(r'class="state alert-unknown">unknown<', text)
    assert "Look at &lt;b&gt;providers" in client.get("/alerts/failing").text


def test_the_newest_window_of_a_rule_ends_now_as_the_rule_looks_at_it(house: Furnished) -> None:
    content = RuleContent(measure="calls", window_s=7200, alert=Threshold(above=5), subject="trace")
    now, length = now_ns(), 7200 * 1_000_000_000
    plot = draw_rule(house.services.measures, content, now=now, zoom_href="")
    data = json.loads(plot.data)
    spans = [(int(each["since"]), int(each["until"])) for each in data["slices"]]
    assert spans[-1] == (now - length, now)
    assert all(until - since == length and since % length == 0 for since, until in spans[:-1])
    n_lately = house.services.alerts.preview(content).value
    assert data["lines"][0]["values"][-1] == n_lately
    assert n_lately
