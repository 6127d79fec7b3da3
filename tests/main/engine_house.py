"""A running installation with a tiny model in two versions, callers that never stop asking, and its engines."""

import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penstock.main.embedded import ModelRooms
from penstock.main.home_files import read_admin_key
from penstock.main.instance import ChildState, InstanceState, running_instance, wait_until_ready
from penstock.spec.home import Home
from tests.cli.commands import Outcome, call
from tests.main.fleet import wait_until
from tests.tuning.tiny_models import make_llama

QUESTION = [{"role": "user", "content": "How long should I walk?"}]


def make_versions(home: Home, folder: Path, name: str = "tiny", *, seeds: tuple[int, ...] = (7, 8)) -> None:
    """Register a tiny model in one version a seed; `prod` names the last."""
    rooms = ModelRooms(home, environ={})
    try:
        for seed in seeds:
            source = make_llama(folder / f"{name}-{seed}", seed=seed)
            pulled = rooms.models.pull(name, f"folder:{source}")
            if not pulled.is_live:
                rooms.registry.move_alias(
                    "model", name, "prod", pulled.number, actor="test", override_reason="a test"
                )
    finally:
        rooms.close()


@dataclass
class House:
    """What the tests ask of the running installation."""

    home: Home
    process: "subprocess.Popen[bytes]"

    @property
    def state(self) -> InstanceState:
        found = running_instance(self.home)
        assert found is not None
        return found

    def children(self, prefix: str) -> list[ChildState]:
        """The engines whose name begins so."""
        return [child for child in self.state.children if child.name.startswith(prefix)]

    def run(self, *arguments: str, code: int = 0) -> Outcome:
        """Run a command."""
        outcome = call(*arguments, home=self.home.root)
        assert outcome.code == code, outcome
        return outcome

    def deployment(self, name: str) -> dict[str, Any]:
        """Return a deployment."""
        return dict(self.run("deploy", "show", name, "--json").json)

    def ask(self, model: str, **body: Any) -> "Reply":
        """Ask once."""
        return ask(self.state.addresses.gateway_url, read_admin_key(self.home), model, **body)


@dataclass(frozen=True)
class Reply:
    """How a call went."""

    status: int
    version: str
    text: str
    is_whole: bool = True


def ask(url: str, key: str, model: str, **body: Any) -> Reply:
    """Ask, streamed or not; never raises for what the gateway answers."""
    data = json.dumps({"model": model, "messages": QUESTION, "max_tokens": 32, **body}).encode()
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/chat/completions", data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            text = response.read().decode()
            version = response.headers["x-penstock-version"] or ""
            is_whole = "data: [DONE]" in text and '"error"' not in text if body.get("stream") else True
            return Reply(response.status, version, text, is_whole)
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, "", error.read().decode(), False)
    except OSError as error:
        return Reply(0, "", str(error), False)


@dataclass
class Callers:
    """Threads that ask one model without pause, every other one streamed."""

    house: House
    model: str
    replies: list[Reply] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        url, key = self.house.state.addresses.gateway_url, read_admin_key(self.house.home)

        def keep_asking(number: int) -> None:
            while not self._stop.is_set():
                self.replies.append(ask(url, key, self.model, stream=number % 2 == 0))
                time.sleep(0.03)  # the machine has other things to do than to be asked

        self._threads = [threading.Thread(target=keep_asking, args=(number,)) for number in range(4)]

    @contextmanager
    def asking(self) -> Iterator["Callers"]:
        """Ask while inside."""
        for thread in self._threads:
            thread.start()
        try:
            wait_until(lambda: len(self.replies) >= 8, what="the first replies")
            yield self
            n_before = len(self.replies)
            wait_until(lambda: len(self.replies) >= n_before + 8, what="further replies")
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(120)

    def failed(self) -> list[Reply]:
        """Return the calls that were not answered whole."""
        return [each for each in self.replies if each.status != 200 or not each.is_whole]

    def versions(self) -> set[str]:
        """Return the versions that answered, as `NAME@NUMBER`."""
        return {each.version.partition(" ")[0].removeprefix("model:") for each in self.replies}


@contextmanager
def running(home: Home) -> Iterator[House]:
    """Run an installation while inside; it ends in order."""
    home.root.mkdir(parents=True, exist_ok=True)
    home.settings.write_text("[up]\nport = 0\nconsole_port = 0\nworkers = 2\n")
    log = (home.root.parent / "up.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "penstock.cli", "up", "--home", str(home.root)],
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        wait_until_ready(home, deadline_s=240)
        yield House(home, process)
        process.terminate()
        assert process.wait(240) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        log.close()
