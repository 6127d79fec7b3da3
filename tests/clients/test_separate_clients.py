"""Clients that run as programs of their own: `llama-index` with its older `openai`, and the npm package `openai`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import Place
from tests.clients.install import LLAMA_INDEX, NODE, install_llama_index, install_node
from tests.clients.upstream import VECTORS

HERE = Path(__file__).parent
TEXT = "Drink water."


def run(command: list[str], **environment: str) -> Any:
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_llama_index(place: Place) -> None:
    problem = install_llama_index()
    if problem is not None:
        pytest.skip(problem)
    got = run(
        [sys.executable, str(HERE / "llama_checks.py"), place.url, place.key], PYTHONPATH=str(LLAMA_INDEX)
    )
    for server in ("openai", "anthropic"):
        assert got.pop(server) == {
            "complete": TEXT,
            "chat": TEXT,
            "streamed": TEXT,
            "tools": ["Oslo", "Rome"],
        }
    assert got == {"structured": "Oslo", "embeddings": [list(vector) for vector in VECTORS]}


def test_openai_from_npm(place: Place) -> None:
    problem = install_node()
    if problem is not None:
        pytest.skip(problem)
    node = shutil.which("node")
    assert node is not None
    got = run([node, str(HERE / "node" / "checks.mjs"), str(NODE), place.url, place.key])
    for server in ("openai", "anthropic", "gemini"):
        assert got.pop(server) == {
            "chat": [TEXT, 28],
            "streamed": TEXT,
            "tools": ["Oslo", "Rome"],
            "streamedTools": ["Oslo", "Rome"],
            "responses": TEXT,
            "streamedResponses": TEXT,
            "error": ["RateLimitError", 429, "7"],
        }
    assert got == {
        "embeddings": [list(vector) for vector in VECTORS],
        "models": True,
        "file": "{}",
        "batch": "validating",
    }
