"""Configuration, keys, secrets, limits and money in the console, as a browser without JavaScript gets them."""

import html
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal

import msgspec
import pytest

from penstock.base.clock import now_ns
from penstock.console.limit_use import list_use, tell_rule
from penstock.console.objects import NEVER, NO_KEY, QUIET, health_word, sum_health, tell_traffic
from penstock.console.policies import tell_deprecation, tell_policies
from penstock.console.ranges import HOUR_NS
from penstock.deploy.live import NothingLive, TargetState
from penstock.spec.limits import LimitRule
from penstock.spec.routes import Deprecation, Fallback, Provider, Route, Target
from penstock.spec.windows import find_window, name_counter
from penstock.store.counters import Counter
from penstock.store.spans.traffic_queries import TrafficRow
from tests.console.conftest import make_app, sign_in
from tests.fixtures.asgi import AsgiClient, Reply
from tests.fixtures.furnished import TRACE_ID, Furnished

ADDRESS = "http://127.0.0.1:9/v1"
PRICES = {"input_uncached": "1.5", "output_text": "2"}


class Busy(NothingLive):
    """One target is open, and one rule is nearly used up."""

    def target(self, route: Route, target: Target, provider: Provider) -> TargetState | None:
        return TargetState(
            circuit="open" if target.model == "big" else "closed",
            free_in_s=4.0,
            in_flight=3,
            latency_s=0.25,
            is_resting=False,
            last_fault="timeout",
            n_good=7,
            n_bad=5,
        )

    def counters(self) -> Sequence[Counter] | None:
        end_s = find_window("day", now_ns() / 1e9).end_s
        return [
            Counter(key=name_counter("daily", "usd", "day", "ada"), value=9_000_000_000, window_end_s=end_s),
            Counter(key=name_counter("daily", "usd", "day", "bo"), value=10_000_000_000, window_end_s=end_s),
            Counter(key=name_counter("daily", "usd", "day", "zed"), value=1, window_end_s=5),
        ]


@pytest.fixture
def home(furnished: Furnished) -> Furnished:
    """A furnished house with a provider, a route with two targets, a limit and a price."""
    put = furnished.services.configuration.put
    put("provider", "cloud", {"base_url": ADDRESS}, actor="ada")
    content = {
        "targets": [{"provider": "cloud", "model": "small"}, {"provider": "cloud", "model": "big", "tier": 1}]
    }
    put("route", "team/chat", content, actor="ada")
    put("limit", "daily", {"scope": "user", "unit": "usd", "amount": "10", "window": "day"}, actor="ada")
    put("price", "cloud/small", PRICES, actor="ada")
    furnished.services = replace(furnished.services, live=Busy())
    return furnished


@pytest.fixture
def client(home: Furnished) -> AsgiClient:
    return sign_in(AsgiClient(make_app(home)), home.owner_key)


def post(client: AsgiClient, path: str, **fields: str) -> Reply:
    token = re.search(r'csrf-token" content="(\w+)"', client.get("/limits").text)
    assert token is not None
    return client.post_form(path, {**fields, "csrf_token": token[1]})


def hidden(reply: Reply) -> dict[str, str]:
    """Return the hidden fields of the last form of a page, and the default ones of its first."""
    found = re.findall(
        r'<input type="hidden" name="([^"]+)" value="([^"]*)"', reply.text.partition("<main")[2]
    )
    return {name: html.unescape(value) for name, value in found}


def filled(reply: Reply) -> dict[str, str]:
    """Return what a browser would send of an edit form as it came."""
    fields = hidden(reply)
    for name, value in re.findall(r'<input id="f-[^"]+" name="([^"]+)" value="([^"]*)"', reply.text):
        fields[name] = html.unescape(value)
    for name, inner in re.findall(r'<select id="f-[^"]+" name="([^"]+)"[^>]*>(.*?)</select>', reply.text):
        chosen = re.search(r"<option selected>([^<]*)", inner)
        fields[name] = html.unescape(chosen[1]) if chosen else ""
    for name in re.findall(r'<input type="checkbox" name="([^"]+)" checked', reply.text):
        fields[name] = "on"
    fields.pop("csrf_token", None)
    return fields


def apply(client: AsgiClient, review: Reply, **more: str) -> Reply:
    return post(client, "/edit/route", **{**hidden(review), "_step": "apply", **more})


PATHS = (
    "/providers", "/providers/cloud", "/routes", "/routes/team/chat", "/limits", "/prices", "/secrets",
    "/configuration", "/configuration/1", "/configuration/1/rollback", "/cost", "/cost?by=day", "/cost/advice",
    "/edit/route", "/edit/route?name=team/chat", "/edit/provider", "/edit/limit", "/edit/price?name=cloud/small",
    "/edit/provider?like=cloud",
)  # fmt: skip


def test_every_page_is_whole_and_safe(client: AsgiClient) -> None:
    for path in PATHS:
        reply = client.get(path)
        assert reply.status == 200, (path, reply.text)
        assert reply.text.count("<h1>") == 1, path
        assert re.search(r"\s(?:style|on[a-z]+)=[\"']", reply.text) is None, path
        assert 'aria-current="page"' in reply.text, path


def test_an_edit_shows_what_differs_and_becomes_a_version_once_applied(
    client: AsgiClient, home: Furnished
) -> None:
    configuration = home.services.configuration
    before = configuration.history(limit=1)[0].number
    form = filled(client.get("/edit/route?name=team/chat"))
    review = post(client, "/edit/route", **{**form, "deadline_s": "30", "targets.1.weight": "2"})
    assert review.status == 200
    assert "<ins>30</ins>" in review.text and "targets[2].weight" in review.text
    assert configuration.history(limit=1)[0].number == before
    assert configuration.get("route", "team/chat").content.get("deadline_s") is None
    done = apply(client, review, _note="Answers were late")
    assert done.status == 303
    page = client.get(done.headers["location"]).text
    assert f"The route team/chat is changed. Configuration {before + 1} is out." in page
    assert "A call ends after 30 s" in page
    newest = configuration.history(limit=1)[0]
    assert newest.note == "Answers were late" and newest.actor.startswith("admin (key_")
    assert "Answers were late" in client.get("/configuration").text


def test_a_form_sent_back_as_it_came_changes_nothing(client: AsgiClient) -> None:
    review = post(client, "/edit/route", **filled(client.get("/edit/route?name=team/chat")))
    assert "Nothing would change" in review.text


def test_a_name_with_signs_that_mean_something_in_urls_has_its_page(
    client: AsgiClient, home: Furnished
) -> None:
    target = {"provider": "cloud", "model": "small"}
    home.services.configuration.put("route", "50% off? #1 & <b>", {"targets": [target]}, actor="ada")
    listed = client.get("/routes").text
    assert "<b>" not in listed.partition("<main")[2].partition("</main")[0]
    (href,) = re.findall(r'href="(/routes/50[^"]*)"', listed)
    assert href == "/routes/50%25%20off%3F%20%231%20%26%20%3Cb%3E"
    form = filled(client.get("/edit/route?name=" + href.removeprefix("/routes/")))
    assert form["_object_name"] == "50% off? #1 & <b>"
    done = apply(client, post(client, "/edit/route", **{**form, "deadline_s": "9"}))
    assert done.headers["location"].startswith(f"{href}?notice=")


def test_a_routes_own_version_is_not_that_of_the_form(client: AsgiClient, home: Furnished) -> None:
    form = filled(client.get("/edit/route?name=team/chat"))
    assert apply(client, post(client, "/edit/route", **{**form, "version": "prompt:a@7"})).status == 303
    assert home.services.configuration.get_stored("route", "team/chat").content["version"] == "prompt:a@7"


def test_mistakes_stand_in_place_and_nothing_written_is_lost(client: AsgiClient) -> None:
    form = filled(client.get("/edit/route?name=team/chat"))
    reply = post(client, "/edit/route", **{**form, "deadline_s": "soon", "targets.1.model": ""})
    assert reply.status == 400
    assert 'value="soon"' in reply.text and "Must be a valid number" in reply.text
    assert reply.text.count('aria-invalid="true"') == 2
    assert "2 things to mend" in reply.text and reply.text.count('role="alert"') == 1
    for name in ("deadline_s", "targets.1.model"):
        assert f'href="#f-{name}"' in reply.text and f'id="f-{name}"' in reply.text
    unknown = post(client, "/edit/route", **{**form, "targets.0.provider": "nowhere"})
    assert unknown.status == 400 and "nowhere" in unknown.text and 'role="alert"' in unknown.text
    more = post(client, "/edit/route", **{**form, "_step": "more"})
    assert len(re.findall(r'name="targets\.\d+\.model"', more.text)) == 2 + 4


def test_whoever_was_faster_is_seen_before_anything_is_lost(client: AsgiClient, home: Furnished) -> None:
    configuration = home.services.configuration
    form = filled(client.get("/edit/route?name=team/chat"))
    review = post(client, "/edit/route", **{**form, "deadline_s": "30"})
    theirs = {**configuration.get_stored("route", "team/chat").content, "on_loss": "refuse"}
    configuration.put("route", "team/chat", theirs, actor="bo")
    conflict = apply(client, review)
    assert conflict.status == 409
    assert "Somebody was faster." in conflict.text and "bo made it version 2" in conflict.text
    assert "What they changed" in conflict.text and "<ins>refuse</ins>" in conflict.text
    assert "<del>refuse</del>" in conflict.text  # what applying mine would take back
    assert configuration.get_stored("route", "team/chat").content == theirs
    assert apply(client, conflict).status == 303
    assert configuration.get_stored("route", "team/chat").content["deadline_s"] == 30


def test_an_object_is_made_and_deleted_after_a_look(client: AsgiClient, home: Furnished) -> None:
    configuration = home.services.configuration
    taken = post(
        client,
        "/edit/limit",
        _object_name="daily",
        _is_new="yes",
        scope="all",
        unit="usd",
        amount="1",
        window="day",
    )
    assert taken.status == 400 and "There is a limit &#39;daily&#39; already." in taken.text
    fields = {"scope": "all", "unit": "tokens", "amount": "1,000", "window": "hour"}
    review = post(client, "/edit/limit", _object_name="hourly", _is_new="yes", **fields)
    assert "limit hourly" in review.text
    assert post(client, "/edit/limit", **{**hidden(review), "_step": "apply"}).status == 303
    assert "At most 1,000 tokens a hour" in client.get("/limits").text.replace("an hour", "a hour")
    ask = post(client, "/edit/limit", _object_name="hourly", _step="delete")
    assert "removed" in ask.text and configuration.get("limit", "hourly")
    assert post(client, "/edit/limit", **{**hidden(ask), "_step": "apply"}).status == 303
    assert [view.name for view in configuration.list("limit")] == ["daily"]


def test_going_back_restores_what_was_after_a_confirmation(client: AsgiClient, home: Furnished) -> None:
    configuration = home.services.configuration
    number = configuration.history(limit=1)[0].number
    configuration.put("route", "extra", {"targets": [{"provider": "cloud", "model": "x"}]}, actor="bo")
    ask = client.get(f"/configuration/{number}/rollback").text
    assert "route extra" in ask and "removed" in ask
    assert configuration.get("route", "extra")
    done = post(client, f"/configuration/{number}/rollback", note="Too early")
    assert done.status == 303
    assert "Rolled back to configuration" in client.get(done.headers["location"]).text
    assert "extra" not in [view.name for view in configuration.list("route")]
    assert configuration.history(limit=1)[0].note == "Too early"


def test_what_is_kept_elsewhere_says_where_and_has_no_form(client: AsgiClient, home: Furnished) -> None:
    built_in = next(view for view in home.services.configuration.list("provider") if view.owner != "database")
    page = client.get(f"/providers/{built_in.name}").text
    assert "built in" in page and "_step" not in hidden(Reply(200, {}, page.encode()))
    refused = client.get(f"/edit/provider?name={built_in.name}")
    assert (refused.status, "is built in" in refused.text) == (409, True)
    assert client.get("/edit/gateway").status == 404
    assert client.get("/providers/clout").status == 404


def test_only_who_may_change_the_configuration_can(home: Furnished) -> None:
    assert AsgiClient(make_app(home), bearer=home.call_key).get("/providers").status == 403
    owner = sign_in(AsgiClient(make_app(home)), home.owner_key)
    assert owner.post_form("/edit/route", {"_object_name": "team/chat", "_step": "delete"}).status == 403


def test_routes_and_providers_show_how_their_targets_are(client: AsgiClient) -> None:
    route = client.get("/routes/team/chat").text
    assert "degraded" in route and "250 ms" in route and ">open<" in route and "for 4 s" in route
    live = client.get("/route-targets/team/chat").text
    assert 'data-final="no"' in live and "<h1>" not in live
    provider = client.get("/providers/cloud").text
    assert "15 failed" in client.get("/providers").text
    assert "$1.5" in provider and ADDRESS in provider


def test_limits_show_use_as_bars_and_when_they_begin_anew(client: AsgiClient) -> None:
    page = client.get("/limits").text
    assert "At most $10.00 a day for each user." in page
    assert page.index(">bo<") < page.index(">ada<")
    assert "used up" in page and "90.0 %" in page and "$9.00" in page and "zed" not in page
    assert "daily" in client.get("/cost").text  # as a budget


def test_a_secret_is_entered_and_replaced_and_never_shown(client: AsgiClient, home: Furnished) -> None:
    wrong = post(client, "/secrets", name="Cloud!", value="sk-very-secret", url=ADDRESS)
    assert wrong.status == 400 and "sk-very-secret" not in wrong.text and 'value="Cloud!"' in wrong.text
    made = post(client, "/secrets", name="cloud", value="sk-very-secret", url=ADDRESS)
    assert made.status == 303
    home.services.configuration.put(
        "provider", "cloud", {"base_url": ADDRESS, "secret": "cloud"}, actor="ada"
    )
    page = client.get("/secrets").text
    assert "http://127.0.0.1:9" in page and "sk-very-secret" not in page and 'href="/providers/cloud"' in page
    assert post(client, "/secrets/cloud/rotate", value="sk-other").status == 303
    kept = post(client, "/secrets/cloud/delete")
    assert kept.status == 409 and "is used by cloud" in kept.text
    home.services.configuration.put("provider", "cloud", {"base_url": ADDRESS}, actor="ada")
    assert post(client, "/secrets/cloud/delete").status == 303
    assert len(home.published) == 3


def test_a_key_is_changed_rotated_with_an_overlap_and_limited(client: AsgiClient, home: Furnished) -> None:
    keys = home.services.keys
    key = keys.verify(home.call_key)
    assert key is not None
    fields = filled_key(client.get(f"/keys/{key.id}").text)
    same = post(client, f"/keys/{key.id}", **fields)
    assert "Nothing was changed" in client.get(same.headers["location"]).text
    done = post(client, f"/keys/{key.id}", **{**fields, "tokens_per_minute": "5000", "expires": "2099-12-31"})
    page = client.get(done.headers["location"]).text
    assert "Changed: tokens per minute, expires." in page and "0 of 5,000" in page
    assert keys.get(key.id).expires_ns == 4_102_444_800 * 10**9
    wrong = post(client, f"/keys/{key.id}", **{**fields, "routes": "nowhere"})
    assert wrong.status == 400 and "There is no route" in wrong.text
    rotated = post(client, f"/keys/{key.id}/rotate", overlap_s="3600")
    secret = re.search(r"<code data-secret>(ps-[\w-]{43})</code>", rotated.text)
    assert secret is not None and "The text before works until" in rotated.text
    assert keys.verify(secret[1]) and keys.verify(home.call_key)
    assert post(client, f"/keys/{key.id}/rotate", overlap_s="1e9").status == 400


def filled_key(page: str) -> dict[str, str]:
    names = ("name", "routes", "requests_per_minute", "tokens_per_minute", "project", "user", "expires")
    found = {name: re.search(rf'<input name="{name}"[^>]*?value="([^"]*)"', page) for name in names}
    return {"scope": "call", **{name: html.unescape(hit[1]) if hit else "" for name, hit in found.items()}}


def test_costs_are_summed_with_what_they_leave_out_and_lead_to_traces(client: AsgiClient) -> None:
    page = client.get("/cost?by=model&range=24h").text
    assert "Without a price" in page and "pocket" in page and "/traces?range=24h&amp;model=pocket" in page
    narrowed = client.get("/cost?by=user&range=24h&route=pocket").text
    assert "route <b>pocket</b>" in narrowed
    why = client.get(f"/cost/calls/{TRACE_ID}")
    assert why.status == 200 and "Why this cost" in why.text and "input uncached" in why.text
    assert f'href="/cost/calls/{TRACE_ID}"' in client.get(f"/traces/{TRACE_ID}").text
    assert client.get("/cost/calls/nothing").status == 404


def test_a_first_day_says_what_to_do(unfurnished: Furnished) -> None:
    client = sign_in(AsgiClient(make_app(unfurnished)), unfurnished.owner_key)
    for path, command in (
        ("/limits", "penstock limit create"),
        ("/prices", "penstock price create"),
        ("/secrets", "penstock secret set"),
        ("/providers", "penstock provider create"),
        ("/cost", "penstock demo"),
        ("/configuration", "penstock config history"),
        ("/cost/advice", "penstock cost advice"),
    ):
        assert command in client.get(path).text, path


def test_policies_read_as_sentences() -> None:
    route = Route(name="a", targets=(), deadline_s=90.0, fallbacks=(Fallback(route="b", on=("timeout",)),))
    told = {each.name: each.text for each in tell_policies(route)}
    assert told["Deadline"].startswith("A call ends after 90 s")
    assert told["Retries"].startswith("Up to 3 attempts over all targets, on no connection, a timeout,")
    assert "waits at most 5 s" in told["Retries"]
    assert told["Fallbacks"] == "When no target can answer: b on a timeout."
    found = tell_deprecation(
        Deprecation(since="2026-01-01", sunset="2026-06-01", replacement="b"),
        date(2026, 3, 1),
    )
    assert found == "Deprecated since 2026-01-01, refused from 2026-06-01, clients are sent to b."


def test_a_route_is_degraded_when_some_of_its_targets_are_not_well() -> None:
    assert sum_health([NEVER, NEVER]) == NEVER
    assert sum_health([NEVER, QUIET]) == QUIET
    assert sum_health(["healthy", NEVER]) == "healthy"
    assert sum_health(["healthy", "open"]) == "degraded"
    assert sum_health(["healthy", NO_KEY]) == "degraded"
    assert sum_health(["open", "open"]) == "open"
    assert sum_health([NO_KEY, NO_KEY], "failing") == NO_KEY
    assert sum_health([NO_KEY, "failing"]) == "failing"
    assert sum_health([NO_KEY, QUIET], "healthy") == "degraded"
    assert sum_health([QUIET], "failing") == "failing"
    assert sum_health([], "healthy") == "healthy"
    assert sum_health([]) == NEVER


def test_only_answers_of_late_make_a_target_healthy() -> None:
    def word(n_good: int, n_bad: int) -> str:
        return health_word(
            TargetState(
                circuit="closed",
                free_in_s=0.0,
                in_flight=0,
                latency_s=None,
                is_resting=False,
                last_fault=None,
                n_good=n_good,
                n_bad=n_bad,
            )
        )

    assert health_word(None) == NEVER
    assert word(0, 0) == QUIET
    assert word(0, 3) == "failing"
    assert word(3, 1) == "healthy"


def test_traffic_tells_of_the_newest_slice_within_the_hour() -> None:
    def told(calls: list[int], errors: list[int], hours: int) -> str | None:
        row = TrafficRow(
            name="a",
            n_calls=1,
            n_errors=0,
            p50_ms=None,
            p95_ms=None,
            ttft_ms=None,
            calls=calls,
            errors=errors,
        )
        return tell_traffic(row, hours * HOUR_NS)

    assert told([5, 2, 0], [0, 2, 0], 1) == "failing"
    assert told([5, 2, 3], [5, 2, 1], 1) == "healthy"
    assert told([5, 2, 0], [5, 2, 0], 3) is None
    assert tell_traffic(None, HOUR_NS) is None


def test_damaged_settings_are_told_where_settings_are_shown(home: Furnished) -> None:
    damaged = replace(
        home, services=replace(home.services, find_warnings=lambda: {"settings": "line 3: no such key"})
    )
    client = sign_in(AsgiClient(make_app(damaged)), home.owner_key)
    for path in ("/configuration", "/limits"):
        assert "line 3: no such key" in client.get(path).text, path


def test_providers_have_a_place_of_their_own_in_the_menu(client: AsgiClient) -> None:
    page = client.get("/providers").text
    assert '<a href="/providers" aria-current="page">Providers</a>' in page
    assert '<a href="/configuration" aria-current="page">Settings</a>' in client.get("/prices").text


def test_use_over_its_limit_is_not_rounded_to_the_limit() -> None:
    rule = LimitRule(name="day", scope="user", unit="usd", window="day", amount=Decimal("0.05"))
    counter = Counter(key=name_counter("day", "usd", "day", "ada"), value=50_400_000, window_end_s=86_400)
    (shown,) = list_use([rule], [counter], {}, now_s=100.0)
    assert [(use.used, use.pct, use.share) for use in shown.uses] == [("$0.0504", 100.0, "100.8 %")]
    ten = replace_amount(rule, "10")
    least = Counter(key=counter.key, value=1, window_end_s=86_400)
    assert list_use([ten], [least], {}, now_s=100.0)[0].uses[0].used == "< $0.01"


def replace_amount(rule: LimitRule, amount: str) -> LimitRule:
    """Return the rule with another amount."""
    return msgspec.structs.replace(rule, amount=Decimal(amount))


def test_use_counts_only_the_window_that_is_under_way() -> None:
    rule = LimitRule(name="k", scope="key", unit="requests", amount=Decimal(10), window="hour", match="key_1")
    counters = [
        Counter(key=name_counter("k", "requests", "hour", "key_1"), value=5, window_end_s=3600),
        Counter(key=name_counter("k", "requests", "hour", "key_2"), value=9, window_end_s=3600),
        Counter(key="penstock\x1faway", value=9, window_end_s=3600),
    ]
    (now,) = list_use([rule], counters, {"key_1": "shop"}, now_s=100.0)
    assert [(use.label, use.pct, use.used) for use in now.uses] == [("shop", 50.0, "5 requests")]
    assert now.sentence == tell_rule(rule, "shop") == "At most 10 requests an hour for the key shop"
    (later,) = list_use([rule], counters, {}, now_s=3600.0)
    assert later.uses == ()


def test_the_review_carries_what_was_written_as_json(client: AsgiClient) -> None:
    form = filled(client.get("/edit/price?name=cloud/small"))
    review = post(client, "/edit/price", **{**form, "output_text": "2.50"})
    assert json.loads(hidden(review)["_content"]) == {**PRICES, "output_text": "2.50"}
    back = post(client, "/edit/price", **{**hidden(review), "_step": "back"})
    assert 'value="2.50"' in back.text
