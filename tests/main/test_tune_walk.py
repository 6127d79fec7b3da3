"""A model from nothing to `prod` by the documented commands: scratch, LoRA, DPO, quantise, gate, deploy, hot swap under load.

The recipes are those of examples/tuning/keys, the commands those of docs/guides/tuning-pocket.md. On the way its trainer is killed and
goes on to the same weights, and rows that hold another model's template are refused.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from penstock.main.home_files import read_admin_key
from penstock.main.instance import InstanceState, wait_until_ready
from penstock.spec.home import Home
from tests.main.shell_house import Shell, open_shell

KEYS = Path(__file__).resolve().parents[2] / "examples" / "tuning" / "keys"
pytestmark = [pytest.mark.slow, pytest.mark.engine, pytest.mark.timeout(3000)]


@pytest.fixture
def shell(tmp_path: Path, tune_python: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    monkeypatch.setenv("PENSTOCK_TUNE_PYTHON", str(tune_python))
    with open_shell(tmp_path) as opened:
        yield opened


class Callers:
    """Asks `keys` over and over from several threads, and keeps what answered."""

    def __init__(self, home: Home, instance: InstanceState, count: int = 3) -> None:
        self.versions: list[str] = []
        self.failures: list[str] = []
        self._key, self._url = read_admin_key(home), f"{instance.addresses.gateway_url}/v1/chat/completions"
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        body = {"model": "keys", "messages": [{"role": "user", "content": "Where is the lamp?"}]}
        with httpx.Client(headers={"authorization": f"Bearer {self._key}"}, timeout=60) as client:
            while not self._end.is_set():
                reply = client.post(self._url, json=body)
                if reply.status_code == 200:
                    self.versions.append(reply.headers["x-penstock-version"].partition(" ")[0])
                else:
                    self.failures.append(f"{reply.status_code} {reply.text[:200]}")

    def wait_for(self, version: str, *, times: int = 20) -> None:
        end = time.monotonic() + 600
        while self.versions[-times:].count(version) < times:
            assert time.monotonic() < end, (self.versions[-3:], self.failures[:2])
            time.sleep(0.05)

    def stop(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()


def kill_trainer_after_checkpoint(home: Home, name: str) -> None:
    """Kill -9 the trainer of the newest run once it has written a checkpoint."""
    end = time.monotonic() + 600
    while time.monotonic() < end:
        for found in home.tuning.glob("run_*/checkpoints/step-*/state.json"):
            for each in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    words = each.read_bytes().split(b"\0")
                except OSError:
                    continue
                if any(word.endswith(b"trainer/__main__.py") for word in words) and any(
                    str(found.parents[2]).encode() in word for word in words
                ):
                    os.kill(int(each.parent.name), signal.SIGKILL)
                    return
        time.sleep(0.01)
    raise AssertionError(f"no trainer of {name} was seen")


def test_a_model_goes_from_nothing_to_prod_by_the_documented_commands(shell: Shell, tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    subprocess.run([sys.executable, KEYS / "rows.py", rows], check=True)
    for name in ("facts", "moved", "preferences", "asked", "wrong"):
        shell("dataset", "create", f"keys-{name}", str(rows / f"{name}.jsonl"), "--license", "Apache-2.0")

    # another model's template in the rows is refused before anything is trained
    recipes = tmp_path / "recipes"
    shutil.copytree(KEYS, recipes)
    (recipes / "wrong.toml").write_text(
        (recipes / "1-scratch.toml").read_text().replace("keys-facts", "keys-wrong")
    )
    plan = shell("tune", "plan", str(recipes / "wrong.toml"), "--no-measure", expect=3)
    assert "template-mismatch" in {each["code"] for each in plan["findings"]}

    # from nothing, killed on the way, and once more without a kill: the same weights
    killer = threading.Thread(target=kill_trainer_after_checkpoint, args=(shell.home, "keys-scratch"))
    killer.start()
    run = shell("tune", "run", str(recipes / "1-scratch.toml"))
    killer.join()
    assert (run["state"], run["attempts"], run["result"]["model"]) == ("done", 2, "model:keys@1")
    (recipes / "again.toml").write_text(
        (recipes / "1-scratch.toml").read_text().replace('name = "keys', 'name = "unbroken')
    )
    again = shell("tune", "run", str(recipes / "again.toml"))
    assert again["attempts"] == 1
    files = [shell("asset", "show", run["result"]["model"])["artefacts"] for run in (run, again)]
    assert files[0]["hf/model.safetensors"] == files[1]["hf/model.safetensors"]
    shell("asset", "move", "model:keys@1", "--alias", "prod", "--reason", "the first one")

    for number, recipe in ((2, "2-lora.toml"), (3, "3-dpo.toml")):
        run = shell("tune", "run", str(recipes / recipe))
        assert (run["state"], run["result"]["model"]) == ("done", f"model:keys@{number}")
    smaller = shell("model", "quantise", "model:keys@3", "--to", "q8_0")
    assert "model:keys@4" in json.dumps(smaller)

    # an engine of its own proves what it serves; a gate compares it with prod through the gateway
    shell("deploy", "model", "model:keys@4", "--name", "keys-candidate")
    assert shell("deploy", "show", "keys-candidate")["state"] == "ready"
    verdict = shell(
        "gate",
        "run",
        str(recipes / "keys.gate.toml"),
        "--candidate",
        "model:keys@4",
        "--baseline",
        "model:keys@1",
    )
    assert verdict["verdict"] == "pass", verdict["rules"]

    # prod moves on that verdict alone, while it is asked all the time
    refused = shell("asset", "move", "model:keys@3", "--alias", "prod", "--gate", verdict["id"], expect=3)
    assert "PS-2360" in refused
    callers = Callers(shell.home, wait_until_ready(shell.home, deadline_s=60))
    try:
        callers.wait_for("model:keys@1")
        shell("asset", "move", "model:keys@4", "--alias", "prod", "--gate", verdict["id"])
        callers.wait_for("model:keys@4")
        shell("asset", "rollback", "model:keys", "--alias", "prod")
        callers.wait_for("model:keys@1")
    finally:
        callers.stop()
    assert callers.failures == []
    shell("deploy", "delete", "keys-candidate")
