"""`python -m penstock.main.load_process FOLDER`: sends the calls of one load test, in a process that does nothing else.

In control's own process, collecting spans and serving pages would make the sender late, and its figures those of the machine.
It reads its order, one line of JSON, from standard input: the order holds a key, which must be in no file that could stay.
It tells progress as JSON lines, and leaves `result.json` and `samples.jsonl` in FOLDER. It stops early, with what it has, on
SIGTERM or when its standard input ends: whoever started it is gone.
"""

import asyncio
import gc
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

from penstock.base.errors import PenstockError
from penstock.base.files import write_atomic
from penstock.deploy.load.mixes import Material
from penstock.deploy.load.running import LoadRun, run_load
from penstock.deploy.load.sending import HttpSender
from penstock.deploy.load.types import LoadSpec

RESULT, SAMPLES = "result.json", "samples.jsonl"


class LoadOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done."""

    test_id: str
    spec: LoadSpec
    material: dict[str, Material]
    prices: tuple[float, float] | None
    gateway_url: str
    key: str
    """Of the installation."""


def main() -> int:
    """Run, print, and return the exit code."""
    folder = Path(sys.argv[1])
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        return 0  # whoever started it went before it had said what to do
    order = msgspec.json.decode(line, type=LoadOrder, strict=False)
    reasons: list[str] = []
    signal.signal(signal.SIGTERM, lambda *_: reasons.append("stopped by hand"))
    threading.Thread(target=_watch_parent, args=(reasons,), daemon=True).start()
    gc.collect()
    gc.freeze()
    gc.disable()  # a pause of the collector would be told as the target's
    try:
        run = asyncio.run(_run(order, reasons))
    except PenstockError as error:
        _say({"error": error.as_dict()})
        return error.exit_code
    with (folder / SAMPLES).open("wb") as file:
        for sample in run.samples:
            file.write(msgspec.json.encode(sample) + b"\n")
    write_atomic(folder / RESULT, msgspec.json.encode(run.result), mode=0o600)
    _say({"done": len(run.samples)})
    return 0


async def _run(order: LoadOrder, reasons: list[str]) -> LoadRun:
    def tell(share: float | None, text: str) -> None:
        _say({"progress": share, "message": text})

    async with HttpSender(order.gateway_url, order.key, order.spec, test_id=order.test_id) as sender:
        return await run_load(
            order.spec,
            sender,
            material=order.material,
            prices=order.prices,
            clock=time.perf_counter,
            tell=tell,
            should_stop=lambda: reasons[0] if reasons else "",
        )


def _watch_parent(reasons: list[str]) -> None:
    while os.read(0, 4096):
        pass
    reasons.append("whoever started it is gone")


def _say(value: dict[str, Any]) -> None:
    try:
        sys.stdout.write(json.dumps(value, default=str) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - for the rest of this process


if __name__ == "__main__":
    sys.exit(main())
