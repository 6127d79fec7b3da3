"""One real installation, started by `penstock up` and used as its users would: keys, models, knowledge, traces.

The tests share it and run in the order of this file; the last one stops it.
"""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import openai
import pytest

from penstock.main.embedded import SHIPPED
from penstock.main.instance import InstanceState, read_state, wait_until_ready
from penstock.spec.home import Home
from tests.cli.commands import Outcome, call, penstock
from tests.main.fleet import is_alive, wait_until
from tests.tuning.tiny_models import make_llama

pytestmark = [pytest.mark.engine, pytest.mark.slow]
ARTICLES = {
    "sleep.md": "# Sleep\n\n## How long\n\nMost adults need 7 to 9 hours of sleep each night.\n",
    "walking.md": "# Walking\n\n## How far\n\nA brisk walk of 30 minutes a day keeps the heart strong.\n",
    "water.md": "# Water\n\n## How much\n\nDrink a glass of water with every meal.\n",
}


@dataclass
class Running:
    home: Home
    process: "subprocess.Popen[str]"

    @property
    def state(self) -> InstanceState:
        state = read_state(self.home)
        assert state is not None
        return state

    @cached_property
    def key(self) -> str:
        made = self.call("key", "create", "--name", "test", "--json").json
        key = str(made["key"])
        wait_until(lambda: self.models(key), what="the gateway to know the key")
        return key

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(
            base_url=f"{self.state.addresses.gateway_url}/v1", api_key=self.key, max_retries=0
        )

    def call(self, *arguments: str) -> Outcome:
        outcome = call(*arguments, home=self.home.root)
        assert outcome.code == 0, outcome
        return outcome

    def models(self, key: str | None = None) -> set[str]:
        status, body = get(f"{self.state.addresses.gateway_url}/v1/models", key or self.key)
        return {model["id"] for model in json.loads(body)["data"]} if status == 200 else set()

    def trace(self, trace_id: str, n_spans: int) -> list[dict[str, Any]]:
        def spans() -> list[dict[str, Any]]:
            outcome = call("traces", "show", trace_id, "--json", home=self.home.root)
            return outcome.json["spans"] if outcome.code == 0 else []

        wait_until(lambda: len(spans()) >= n_spans, what=f"{n_spans} spans of the trace")
        return spans()


def get(url: str, key: str | None = None) -> tuple[int, str]:
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = Home(root=tmp_path_factory.mktemp("up") / "home")
    home.root.mkdir()
    home.settings.write_text("[up]\nport = 0\nconsole_port = 0\n")
    if not (SHIPPED / "pocket" / "manifest.json").exists():
        folder = make_llama(tmp_path_factory.mktemp("tiny"))
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 2048}))
        assert penstock("model", "pull", "pocket", "--from", f"folder:{folder}", home=home.root).code == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "penstock.cli", "up", "--home", str(home.root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        try:
            wait_until_ready(home, deadline_s=240)
            yield Running(home, process)
        finally:
            process.kill()
            process.wait()


def test_everything_is_ready_and_the_owner_has_one_key(up: Running) -> None:
    addresses = up.state.addresses
    for url in (addresses.gateway_url, addresses.console_url):
        assert get(f"{url}/healthz")[0] == 200
        assert get(f"{url}/readyz")[0] == 200
    assert {child.name for child in up.state.children} == {"gateway-1", "apps", "engine", "control"}
    assert all(child.status == "ready" for child in up.state.children)
    assert up.home.admin_key.stat().st_mode & 0o777 == 0o600
    assert len(up.home.admin_key.read_text().splitlines()) == 1
    assert get(f"{addresses.console_url}/api/v1/jobs", up.home.admin_key.read_text().strip())[0] == 200


def test_a_second_up_explains_itself(up: Running) -> None:
    outcome = penstock("up", home=up.home.root)
    assert outcome.code == 4
    assert str(up.process.pid) in outcome.err
    assert str(up.state.addresses.gateway_port) in outcome.err


def test_the_openai_client_is_answered_by_pocket_streaming_and_not(up: Running) -> None:
    assert {"pocket", "lexical"} <= up.models()
    with up.client as client:
        raw = client.chat.completions.with_raw_response.create(
            model="pocket", messages=[{"role": "user", "content": "Hello"}], max_tokens=8
        )
        assert raw.headers["x-penstock-route"] == "pocket"
        assert raw.headers["x-penstock-version"].startswith("model:pocket@1 sha256:")
        usage = raw.parse().usage
        assert usage is not None
        assert usage.prompt_tokens > 0
        stream = client.chat.completions.create(
            model="pocket", messages=[{"role": "user", "content": "Hello"}], max_tokens=8, stream=True
        )
        assert list(stream)[-1].choices[0].finish_reason in {"stop", "length"}
    spans = up.trace(raw.headers["x-penstock-trace-id"], 1)
    assert (spans[0]["kind"], spans[0]["route"], spans[0]["status"]) == ("llm", "pocket", "ok")


def test_a_revoked_key_is_refused(up: Running) -> None:
    made = up.call("key", "create", "--name", "short", "--json").json
    wait_until(lambda: up.models(made["key"]), what="the key to work")
    up.call("key", "revoke", made["id"])
    wait_until(lambda: not up.models(made["key"]), what="the key to be refused")


def test_a_folder_becomes_a_model_that_cites(up: Running, tmp_path: Path) -> None:
    for name, text in ARTICLES.items():
        (tmp_path / name).write_text(text)
    result = up.call("knowledge", "ingest", "handbook", str(tmp_path), "--json").json
    assert (result["report"]["added"], result["report"]["passages"], result["app"]) == (
        3,
        3,
        "app:handbook@1",
    )
    wait_until(lambda: "handbook" in up.models(), what="the app to be a model")
    with up.client as client:
        raw = client.chat.completions.with_raw_response.create(
            model="handbook",
            messages=[{"role": "user", "content": "How many hours of sleep do adults need?"}],
        )
        assert isinstance((raw.parse().model_extra or {})["citations"], list)
        stream = client.chat.completions.create(
            model="handbook", messages=[{"role": "user", "content": "How much water?"}], stream=True
        )
        assert "citations" in (list(stream)[-1].model_extra or {})
    spans = up.trace(raw.headers["x-penstock-trace-id"], 5)
    by_id = {span["span_id"]: span for span in spans}
    roots = [span for span in spans if span.get("parent_id") not in by_id]
    assert [root["route"] for root in roots] == ["handbook"]
    assert {"app", "retrieval", "embedding", "llm"} <= {span["kind"] for span in spans}
    found = up.call("knowledge", "search", "handbook", "hours of sleep", "--json").json
    assert found["hits"][0]["document"] == "sleep.md"


def test_the_registry_knows_what_the_app_is_made_of(up: Running) -> None:
    lineage = up.call("asset", "lineage", "app:handbook@prod", "--json").json
    assert {f"{node['kind']}:{node['name']}" for node in lineage["up"]} == {
        "knowledge:handbook",
        "model:pocket",
    }
    history = up.call("asset", "history", "app:handbook", "--json").json
    assert history[0]["evidence"]["ingest"]["passages"] == 3
    jobs = up.call("job", "list", "--json").json
    assert ("knowledge.ingest", "done") in {(job["kind"], job["state"]) for job in jobs}


def test_settings_are_taken_up_while_running_and_damaged_ones_are_not(up: Running) -> None:
    good = up.home.settings.read_text()
    added = (
        good
        + '[providers.far]\nbase_url = "http://127.0.0.1:9/v1"\n[routes.far]\ntargets = [{provider = "far", model = "m"}]\n'
    )
    up.home.settings.write_text(added)
    wait_until(lambda: "far" in up.models(), what="the new route")
    up.home.settings.write_text(added + "[routes.broken\n")

    def warnings() -> str:
        url, key = f"{up.state.addresses.console_url}/readyz", up.home.admin_key.read_text().strip()
        body = get(url, key)[1]
        return str(json.loads(body)["warnings"]) if body else ""

    wait_until(lambda: "line 8" in warnings(), what="the warning with its line")
    assert get(f"{up.state.addresses.console_url}/readyz")[0] == 200
    assert "far" in up.models()
    control = next(child.pid for child in up.state.children if child.name == "control")
    assert control is not None
    os.kill(control, signal.SIGKILL)
    wait_until(lambda: "line 8" in warnings(), what="control to come back, still warning")
    assert "far" in up.models()
    made = up.call("key", "create", "--name", "late", "--json").json
    wait_until(lambda: up.models(made["key"]), what="a key made meanwhile to work")
    up.call("key", "revoke", made["id"])
    wait_until(lambda: not up.models(made["key"]), what="and to be refused once it is revoked")
    up.home.settings.write_text(good)
    wait_until(lambda: "far" not in up.models(), what="the route to go")
    wait_until(lambda: warnings() == "{}", what="the warning to go")


def test_calls_are_answered_while_control_is_down_and_it_comes_back(up: Running) -> None:
    before = {child.name: child.pid for child in up.state.children}
    assert before["control"] is not None
    os.kill(before["control"], signal.SIGKILL)
    with up.client as client:
        raw = client.embeddings.with_raw_response.create(model="lexical", input="hello")
    assert raw.headers["x-penstock-attempts"] == "1"

    def is_back() -> bool:
        now = {child.name: child for child in up.state.children}
        return now["control"].status == "ready" and now["control"].pid != before["control"]

    wait_until(is_back, what="control to come back")
    assert up.trace(raw.headers["x-penstock-trace-id"], 1)[0]["kind"] == "embedding"


def test_sigterm_ends_everything_and_loses_nothing(up: Running) -> None:
    with up.client as client:
        raw = client.embeddings.with_raw_response.create(model="lexical", input="the last words")
    pids = [child.pid for child in up.state.children]
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(240) == 0
    assert not any(is_alive(pid) for pid in pids if pid is not None)
    shown = up.call("traces", "show", raw.headers["x-penstock-trace-id"], "--content", "--json").json
    assert "the last words" in str(shown["spans"][0]["input"])
    assert up.call("traces", "list", "--limit", "1", "--json").json[0]["trace_id"] == shown["trace_id"]
