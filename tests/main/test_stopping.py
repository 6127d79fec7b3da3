"""Who waits how long at the end: a process is killed only after its own bounds have passed."""

from typing import Any

import pytest

from penstock.main import gateway_process
from penstock.main.instance import Addresses
from penstock.main.stopping import CONTROL_DRAIN_S, CONTROL_THREADS, FLUSH_S, THREAD_STOP_S
from penstock.main.up import plan_children
from penstock.spec.home import Home


def patience(home: Home, name: str) -> float:
    return next(child.drain_s for child in plan_children(home, Addresses(), 1) if child.name == name)


def test_a_gateway_cuts_off_streams_and_flushes_before_it_would_be_killed(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(gateway_process, "configure_logs", lambda **_: None)
    monkeypatch.setattr(gateway_process, "absorb_signals", lambda: None)
    monkeypatch.setattr(gateway_process, "serve_gateway", lambda _home, **options: asked.update(options))
    gateway_process.run_gateway(home, host="127.0.0.1", port=0)
    assert asked["drain_s"] + FLUSH_S <= patience(home, "gateway-1")


def test_control_has_time_for_its_calls_and_each_of_its_threads(home: Home) -> None:
    bounds = CONTROL_DRAIN_S + len(CONTROL_THREADS) * THREAD_STOP_S
    assert bounds + FLUSH_S <= patience(home, "control")
