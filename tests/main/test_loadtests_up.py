"""A load test through a whole installation: command line, control, the process that sends, gateway, record."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.main.instance import read_state, wait_until_ready
from penstock.spec.home import Home
from tests.cli.commands import call
from tests.main.fleet import wait_until
from tests.main.scripted_provider import ScriptedProvider

pytestmark = [pytest.mark.slow]


class House:
    def __init__(self, home: Home, provider: ScriptedProvider) -> None:
        self.home, self.provider = home, provider

    def call(self, *arguments: str, code: int = 0) -> Any:
        outcome = call(*arguments, "--json", home=self.home.root)
        assert outcome.code == code, outcome
        return outcome.json if code == 0 else json.loads(outcome.err)["error"]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("loadtests")
    home, provider = Home(root=folder / "home"), ScriptedProvider()
    home.root.mkdir()
    home.settings.write_text(
        f"""
[providers.fake]
base_url = "{provider.url}/v1"
auth = "none"

[routes.small]
targets = [{{ provider = "fake", model = "small" }}]
cache.mode = "exact"

[[prices]]
provider = "fake"
model = "*"
input_uncached = 10.0
output_text = 20.0
"""
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "penstock.cli", "up", "--port", "0", "--console-port", "0"],
        env={**os.environ, "PENSTOCK_HOME": str(home.root)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: read_state(home), what="the installation to start")
        wait_until_ready(home, deadline_s=240.0)
        yield House(home, provider)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=240)
        provider.close()


OPTIONS = (
    "--requests",
    "20",
    "--rate",
    "10",
    "--completion-tokens",
    "5",
    "--prompt-tokens",
    "20",
    "--warmup",
    "2",
    "--max-late-ms",  # on a busy machine the sender is late, too
    "60000",
)


def test_calls_that_cost_money_wait_for_somebody_who_agrees(house: House) -> None:
    planned = house.call("loadtest", "plan", "small", "--requests", "20")
    assert planned["must_confirm"]
    assert planned["providers"] == ["fake"]
    assert house.call("loadtest", "small", *OPTIONS, code=3)["code"] == "PS-2752"
    assert house.provider.bodies == []


def test_a_route_is_tested_through_the_gateway_and_told_with_its_cost(house: House, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    outcome = call(
        "loadtest", "small", *OPTIONS, "--yes", "--html", str(report), "--json", home=house.home.root
    )
    assert outcome.code == 0, outcome
    record = outcome.json
    figures = record["result"]["targets"][0]
    assert figures["n"] == 20
    assert figures["n_failed"] == 0
    assert figures.get("n_cached", 0) == 0  # though the route keeps replies
    assert len(house.provider.bodies) == 22
    assert figures["cost_usd"] == pytest.approx(20 * (20 * 10e-6 + 5 * 20e-6), rel=0.1)
    assert figures["spreads"]["ttft"]["min"] >= 20
    assert "overhead" in figures["spreads"]
    assert record["result"]["versions"][0]["label"] == "fake/small"
    assert report.read_text().startswith("<!doctype html>")
    listed = house.call("loadtest", "list", "--route", "small")
    assert [row["id"] for row in listed] == [record["id"]]
    exported = call(
        "loadtest", "export", record["id"], "--out", str(tmp_path / "calls.jsonl"), home=house.home.root
    )
    assert exported.code == 0
    assert len((tmp_path / "calls.jsonl").read_text().splitlines()) == 22


def test_recorded_lengths_can_be_asked_again_without_those_of_load_tests(house: House) -> None:
    path = house.home.root / "traffic.load.toml"
    path.write_text('[[mix]]\nsource = "traffic"\n')
    assert house.call("loadtest", "plan", "small", "--file", str(path), code=2)["code"] == "PS-1755"


def test_a_refusing_provider_is_told_by_kind_and_fails_the_limits(house: House) -> None:
    house.provider.status = 400
    try:
        outcome = call(
            "loadtest",
            "small",
            *OPTIONS,
            "--yes",
            "--limit",
            "ttft.p50 <= 5s",
            "--json",
            home=house.home.root,
        )
    finally:
        house.provider.status = 200
    assert outcome.code == 1
    errors = outcome.json["result"]["targets"][0]["errors"]
    assert sum(each["n"] for each in errors) == 20
    assert errors[0]["kind"].startswith("400")
