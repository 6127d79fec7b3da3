"""Proofs of servers of others' make: one that speaks like ours, one that renders otherwise, one that is another model."""

import http.server
import json
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from penstock.base.errors import PenstockError, UpstreamError
from penstock.deploy.deployments.errors import DeploymentInvalid, ProofFailed
from penstock.deploy.deployments.types import Generation
from penstock.main import server_proofs
from penstock.main.embedded import ModelRooms
from penstock.main.engine_calls import EngineCalls
from penstock.main.hosting import host_version
from penstock.main.model_versions import pinned_model
from penstock.main.server_proofs import prove_server
from penstock.providers.engines.app import EngineApp
from penstock.spec.home import Home
from tests.main.engine_house import make_versions
from tests.providers.engines.test_engine_app import KEY, RunningEngine

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelRooms]:
    folder = tmp_path_factory.mktemp("servers")
    home = Home(root=folder / "home")
    make_versions(home, folder / "models")
    opened = ModelRooms(home, environ={})
    yield opened
    opened.close()


def generation(rooms: ModelRooms, number: int, name: str = "tiny") -> Generation:
    model = pinned_model(rooms.registry.resolve(f"model:tiny@{number}"))
    return Generation(number=1, model=model, served_name=name)


@contextmanager
def engine_of(rooms: ModelRooms, number: int) -> Iterator[str]:
    running = RunningEngine(EngineApp([host_version(rooms, f"model:tiny@{number}")], internal_key=KEY))
    try:
        yield f"{running.url}/v1"
    finally:
        running.stop()


def test_a_server_that_serves_the_version_is_proven_by_how_its_replies_begin(rooms: ModelRooms) -> None:
    with engine_of(rooms, 1) as url:
        proof = prove_server(rooms, generation(rooms, 1), url, KEY)
    assert proof["passed"]
    assert proof["strength"] == "greedy"  # our engine tells no log-probabilities over this path
    assert proof["prompt_tokens"]["server"] == proof["prompt_tokens"]["renderer"]


def test_a_server_with_other_weights_is_refused(rooms: ModelRooms) -> None:
    with engine_of(rooms, 2) as url, pytest.raises(ProofFailed, match="replies begin"):
        prove_server(rooms, generation(rooms, 1), url, KEY)


def test_a_name_it_does_not_serve_and_a_key_it_refuses_are_told(rooms: ModelRooms) -> None:
    with engine_of(rooms, 1) as url:
        with pytest.raises(DeploymentInvalid, match="serves no model 'other'; it serves tiny") as caught:
            prove_server(rooms, generation(rooms, 1, "other"), url, KEY)
        assert "--served-name" in str(caught.value.hint)
        with pytest.raises(PenstockError):
            prove_server(rooms, generation(rooms, 1), url, "another key")
    with pytest.raises(UpstreamError, match="cannot be reached"):
        prove_server(rooms, generation(rooms, 1), "http://127.0.0.1:9/v1", KEY)


class Pretender(http.server.BaseHTTPRequestHandler):
    """A server that knows the model's name, takes no token ids, and makes so many tokens of messages."""

    counts: ClassVar[list[int | None]] = []
    tops: ClassVar[list[dict[str, float]]] = []
    """What it tells after token ids, one prompt after another; empty: it takes none."""

    def do_GET(self) -> None:
        self._send(200, {"data": [{"id": "tiny"}]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        if self.path.endswith("/chat/completions"):
            count = self.counts.pop(0)
            usage = None if count is None else {"prompt_tokens": count}
            self._send(200, {"choices": [{"message": {"content": "x"}}], "usage": usage})
        elif self.tops:
            self._send(200, {"choices": [{"text": "x", "logprobs": {"top_logprobs": [self.tops.pop(0)]}}]})
        else:
            self._send(400, {"error": {"message": "prompt must be a text"}})

    def _send(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def pretender(counts: list[int | None], tops: Sequence[dict[str, float]] = ()) -> Iterator[str]:
    Pretender.counts, Pretender.tops = list(counts), list(tops)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pretender)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def golden_counts(rooms: ModelRooms) -> list[int]:
    golden = rooms.registry.resolve("model:tiny@1").content["golden"]
    return [len(each["ids"]) for each in golden if not each.get("mask")]


def test_a_server_that_takes_no_ids_is_proven_by_its_counts_and_that_is_called_weaker(
    rooms: ModelRooms,
) -> None:
    with pretender([*golden_counts(rooms)]) as url:
        proof = prove_server(rooms, generation(rooms, 1), url, None)
    assert (proof["passed"], proof["strength"]) == (True, "tokens")
    assert "weaker" in proof["note"]


def test_a_server_with_another_template_is_refused_by_its_counts(rooms: ModelRooms) -> None:
    """Two start tokens, or another template: llama.cpp issue 7062, unsloth issue 1832."""
    with (
        pretender([each + 1 for each in golden_counts(rooms)]) as url,
        pytest.raises(ProofFailed, match="template"),
    ):
        prove_server(rooms, generation(rooms, 1), url, None)


def test_a_server_that_tells_no_counts_is_proven_by_nothing_and_says_so(rooms: ModelRooms) -> None:
    with pretender([None for _ in golden_counts(rooms)]) as url:
        assert prove_server(rooms, generation(rooms, 1), url, None)["strength"] == "names"


REFERENCE = [{"top": {"1": -0.01, "2": -5.0, "3": -5.2, "4": -5.5, "9": -6.0}, "text": "yes"}]
WORDS = {1: "yes", 2: "no", 3: "a", 4: "b", 9: "the"}


def prove_by_logprobs(
    rooms: ModelRooms, monkeypatch: pytest.MonkeyPatch, top: dict[str, float]
) -> dict[str, Any]:
    golden = rooms.registry.resolve("model:tiny@1").content["golden"]
    n = min(3, len([each for each in golden if not each.get("mask")]))
    renderer = SimpleNamespace(decode=lambda ids: WORDS[ids[0]])
    monkeypatch.setattr(server_proofs, "_ask_own_engine", lambda *_: REFERENCE * n)
    monkeypatch.setattr(server_proofs, "load_served_renderer", lambda _: renderer)
    with pretender([*golden_counts(rooms)], [top] * n) as url:
        return prove_server(rooms, generation(rooms, 1), url, None)


def test_a_server_that_says_the_same_is_proven_however_it_writes_a_space(
    rooms: ModelRooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = {"\u0120yes": -0.011, "no": -5.02, " a": -5.2, "\u2581b": -5.48, "the": -6.0}
    proof = prove_by_logprobs(rooms, monkeypatch, top)
    assert proof["strength"] == "logprobs"
    assert proof["logprobs"]["max_difference"] < 0.03


@pytest.mark.parametrize(
    "top",
    [
        # another model that meets the registered one by chance in its fifth token
        {"dog": -0.02, "cat": -4.9, "cow": -5.0, "fox": -5.5, "the": -6.02},
        # all that is registered is there, and beside it what is not even among the registered model's twenty
        {"yes": -0.01, "dog": -4.6, "no": -5.0, "a": -5.2, "b": -5.5, "the": -6.0},
        {"yes": math.nan, "no": -5.0, "a": -5.2, "b": -5.5, "the": -6.0},
    ],
)
def test_a_server_whose_likeliest_tokens_are_others_is_refused(
    rooms: ModelRooms, monkeypatch: pytest.MonkeyPatch, top: dict[str, float]
) -> None:
    with pytest.raises(ProofFailed, match="nats"):
        prove_by_logprobs(rooms, monkeypatch, top)


@pytest.mark.parametrize("url", ["localhost:8000/v1", "http://h:99999/v1", "http:///v1"])
def test_what_is_no_address_is_told_as_such(url: str) -> None:
    with pytest.raises(UpstreamError, match="no address"):
        EngineCalls(url, None).get("/models")
