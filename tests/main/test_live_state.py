"""What the console learns of running gateways: presence of keys, counters, and nothing of the keys themselves."""

from pathlib import Path

import pytest

from penstock.deploy.live import NothingLive
from penstock.gateway.health import HealthBoard, name_target
from penstock.main.live_state import LiveReader
from penstock.spec.home import Home
from penstock.spec.routes import Provider, Route, Target
from penstock.spec.snapshot import Snapshot
from penstock.store.counters import Ask, CounterStore

CLOUD = Provider(name="cloud", base_url="https://api.example.com/v1", api_key_env="CLOUD_KEY")
SEALED = Provider(name="sealed", base_url="https://api.example.com/v1", secret="team")


@pytest.mark.parametrize(
    ("provider", "state", "source"),
    [
        (CLOUD, "present", "CLOUD_KEY"),
        (SEALED, "present", "team"),
        (Provider(name="x", base_url="http://h/v1", api_key_env="OTHER_KEY"), "missing", "OTHER_KEY"),
        (Provider(name="x", base_url="http://h/v1", secret="gone"), "missing", "gone"),
        (Provider(name="x", base_url="http://h/v1", auth="none"), "not needed", "no key"),
        (Provider(name="x", base_url="http://h/v1"), "not needed", "no key"),
        (Provider(name="x", base_url="http://h/v1", local=True), "not needed", "runs here"),
    ],
)
def test_keys_are_present_missing_or_not_needed(
    tmp_path: Path, provider: Provider, state: str, source: str
) -> None:
    snapshot = Snapshot(digest="sha256:0", written_ns=0, secrets={"team": "sealed text"})
    live = LiveReader(Home(root=tmp_path), {"CLOUD_KEY": "sk-1"}, lambda: snapshot)
    found = live.provider_key(provider)
    live.close()
    assert (found.state, found.source) == (state, source)


def test_health_and_counters_are_those_of_the_gateways(tmp_path: Path) -> None:
    home = Home(root=tmp_path)
    route = Route(name="chat", targets=(Target(provider="cloud", model="big"),))
    counters = CounterStore(home.counters)
    counters.reserve([Ask("k", 3, 3, None, 60, 60)])
    counters.close()
    board = HealthBoard(home.run / "health")
    lease = board.target(name_target(CLOUD, "big"), route.breaker).enter(route.breaker)
    assert lease is not None
    live = LiveReader(home, {}, lambda: None)
    seen = live.target(route, route.targets[0], CLOUD)
    assert seen is not None and (seen.circuit, seen.in_flight, seen.latency_s) == ("closed", 1, None)
    assert live.target(route, Target(provider="cloud", model="small"), CLOUD) is None
    assert [(each.key, each.value) for each in live.counters() or ()] == [("k", 3)]
    live.close()
    board.close()


def test_without_an_installation_nothing_is_known() -> None:
    live = NothingLive()
    route = Route(name="chat", targets=(Target(provider="cloud", model="big"),))
    assert live.target(route, route.targets[0], CLOUD) is None
    assert live.counters() is None
    assert live.provider_key(CLOUD).state == "missing"
