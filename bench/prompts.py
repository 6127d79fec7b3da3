"""What a prompt as a model adds to a call: gateway → apps → gateway beside the same call made directly, in one run.

One connection, one call at a time, the two in turn, against a static upstream; and filling in alone, in this process.
"""

import asyncio
import http.client
import json
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from record import record_result
from stage import free_port, run_upstream, wait_for

N_CALLS = int(os.environ.get("PROMPTS_CALLS", "400"))
CONTENT: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "You sort mail. Be {{ tone }}."},
        {
            "role": "user",
            "content": "Sort this:\n{% for line in mail.split('\n') %}> {{ line }}\n{% endfor %}",
        },
    ],
    "variables": {"mail": {}, "tone": {"required": False, "default": "kind"}},
    "model": "static",
    "parameters": {"temperature": 0.2},
}


def main() -> None:
    """Measure and record."""
    with tempfile.TemporaryDirectory() as folder:
        upstream, port, console = free_port(), free_port(), free_port()
        server = multiprocessing.get_context("spawn").Process(target=_serve, args=(upstream,), daemon=True)
        server.start()
        wait_for(upstream)
        home = Path(folder)
        (home / "penstock.toml").write_text(
            f'[providers.static]\nbase_url = "http://127.0.0.1:{upstream}"\n'
            '[routes.static]\ntargets = [{ provider = "static", model = "gpt-4o-mini" }]\n'
        )
        command = [
            sys.executable,
            "-m",
            "penstock.cli",
            "up",
            "--home",
            folder,
            "--port",
            str(port),
            "--console-port",
            str(console),
        ]
        up = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert up.stdout is not None
        try:
            for line in up.stdout:
                if line.startswith("ready"):
                    break
            key = (home / "admin.key").read_text().strip()
            _create(console, key)
            time.sleep(1.5)
            result = {"n_calls": N_CALLS, **_measure(port, key), **_fill()}
        finally:
            up.send_signal(signal.SIGTERM)
            up.wait(30)
            server.terminate()
    record_result("prompts", result)


def _serve(port: int) -> None:
    asyncio.run(run_upstream(port))


def _create(console: int, key: str) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{console}/api/v1/prompts/sort/versions",
        data=json.dumps({"content": CONTENT}).encode(),
        headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    urllib.request.urlopen(request).read()


def _measure(port: int, key: str) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    direct = {"model": "static", "messages": [{"role": "user", "content": "Sort this"}]}
    prompt = {"model": "prompt:sort", "messages": [], "prompt_variables": {"mail": "one\ntwo\nthree"}}
    times: dict[str, list[float]] = {"direct": [], "prompt": []}
    for number in range(N_CALLS + 20):
        for name, body in (("direct", direct), ("prompt", prompt)):
            began = time.perf_counter()
            connection.request("POST", "/v1/chat/completions", body=json.dumps(body), headers=headers)
            response = connection.getresponse()
            data = response.read()
            assert response.status == 200, data
            if number >= 20:
                times[name].append((time.perf_counter() - began) * 1000)
    told = {f"{name}_ms": round(statistics.median(each), 2) for name, each in times.items()}
    told |= {f"{name}_p95_ms": round(statistics.quantiles(each, n=20)[18], 2) for name, each in times.items()}
    return {**told, "added_ms": round(told["prompt_ms"] - told["direct_ms"], 2)}


def _fill() -> dict[str, Any]:
    from penstock.prompts.render import render
    from penstock.prompts.service import read_content

    content = read_content(CONTENT)
    began = time.perf_counter()
    for _ in range(2000):
        render(content, {"mail": "one\ntwo\nthree"})
    return {"fill_in_us": round((time.perf_counter() - began) / 2000 * 1e6, 1)}


if __name__ == "__main__":
    main()
