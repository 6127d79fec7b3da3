"""A trainer without libraries that keeps the real one's contract: files in, events, checkpoints and `out` out.

Its "weights" are a chain of digests over seed and steps, so two runs are equal exactly when they took the same steps. What
it does beyond that stands in `fake.json` in the run's folder or above it.
"""

import hashlib
import json
import os
import shutil
import signal
import struct
import sys
import time
from pathlib import Path
from typing import Any

STOPPED = False


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--check"]:
        sys.stdout.write("a line of a library\n")
        told = {"packages": {"torch": "0.fake"}, "device": "cpu", "hardware": {"n_cores": 2}}
        sys.stdout.write(json.dumps(told) + "\n")
        return 0
    signal.signal(signal.SIGTERM, stop)
    spec = Path(arguments[0])
    folder = spec.parent
    run = json.loads(spec.read_text())
    wish = read_wish(folder)
    return Training(folder, run, wish).go()


def stop(_number: int, _frame: Any) -> None:
    global STOPPED  # noqa: PLW0603
    STOPPED = True


def read_wish(folder: Path) -> dict[str, Any]:
    for path in (folder / "fake.json", folder.parent / "fake.json"):
        if path.exists():
            return dict(json.loads(path.read_text()))
    return {}


class Training:
    def __init__(self, folder: Path, run: dict[str, Any], wish: dict[str, Any]) -> None:
        self.folder, self.run, self.wish = folder, run, wish
        self.n_steps = run.get("n_steps") or 10
        self.every = run["recipe"].get("train", {}).get("checkpoint_every_steps", 100)
        self.state = hashlib.sha256(str(run["recipe"].get("seed", 20)).encode()).hexdigest()
        self.step = 0
        self.best: tuple[float, int] | None = None

    def go(self) -> int:
        n_starts = self.count_start()
        resumed = self.resume()
        self.tell("begun", detail={"resumed_from": resumed, "device": "cpu", "n_steps": self.n_steps})
        while self.step < self.n_steps:
            if STOPPED and not self.wish.get("is_deaf"):
                self.save()
                self.tell("ended", detail={"reason": "stopped", "steps": self.step})
                return 0
            self.move()
            code = self.misbehave(n_starts)
            if code is not None:
                return code
            if self.step % self.every == 0:
                self.save()
                self.measure()
            time.sleep(self.wish.get("step_s", 0.0))
        self.save()
        self.measure()
        self.write_out()
        self.tell(
            "ended",
            detail={
                "reason": self.wish.get("reason", "done"),
                "steps": self.step,
                "best": "checkpoints/best",
            },
        )
        return int(self.wish.get("code", 0))

    def count_start(self) -> int:
        path = self.folder / "starts"
        number = int(path.read_text()) + 1 if path.exists() else 1
        path.write_text(str(number))
        return number

    def resume(self) -> str | None:
        found = sorted((self.folder / "checkpoints").glob("step-*"), key=lambda path: int(path.name[5:]))
        if not found:
            return None
        saved = json.loads((found[-1] / "state.json").read_text())
        assert saved["digest"] == self.run["digest"], "the checkpoint is another run's"
        self.step, self.state = saved["step"], saved["state"]
        self.best = tuple(saved["best"]) if saved["best"] else None
        return f"checkpoints/{found[-1].name}"

    def move(self) -> None:
        self.step += 1
        self.state = hashlib.sha256(f"{self.state}:{self.step}".encode()).hexdigest()
        loss = 2.0 / self.step
        self.tell(
            "step",
            step=self.step,
            values={"loss": loss, "lr": 1e-3, "tokens": self.step * 10, "tokens_per_s": 500.0},
        )

    def misbehave(self, n_starts: int) -> int | None:
        at, starts = self.wish.get("at", -1), self.wish.get("starts", 1)
        if self.step != at or n_starts > starts:
            return None
        kind = self.wish["kind"]
        if kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "torn":
            with (self.folder / "events.jsonl").open("a") as file:
                file.write('{"kind": "step", "at_')
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "fault":
            self.tell("fault", step=self.step, text=self.wish["text"], detail={"fault": self.wish["fault"]})
            return 3
        if kind == "crash":
            sys.stderr.write(self.wish["text"] + "\n")
            return 1
        if kind == "grow":
            held = bytearray(self.wish["bytes"])
            held[::4096] = b"x" * len(held[::4096])
            self.linger()
        if kind == "fill":
            (self.folder / "filler").write_bytes(b"x" * self.wish["bytes"])
            self.linger()
        return None

    def linger(self) -> None:
        end = time.monotonic() + 120
        while not STOPPED and time.monotonic() < end:
            time.sleep(0.02)

    def save(self) -> None:
        place = self.folder / "checkpoints" / f"step-{self.step}"
        part = place.with_name(".part")
        part.mkdir(parents=True, exist_ok=True)
        state = {"step": self.step, "state": self.state, "digest": self.run["digest"], "best": self.best}
        (part / "state.json").write_text(json.dumps(state))
        if not place.exists():
            part.rename(place)
        self.tell("checkpoint", step=self.step, detail={"path": f"checkpoints/{place.name}"})

    def measure(self) -> None:
        loss = 3.0 / self.step
        self.tell("eval", step=self.step, values={"loss": loss, "n": 4})
        self.tell(
            "sample",
            step=self.step,
            text="reply",
            detail={"prompt": "asked", "reference": "wanted", "row": 3},
        )
        if self.best is None or loss < self.best[0]:
            self.best = (loss, self.step)
            detail = {"path": f"checkpoints/step-{self.step}"}
            self.tell("best", step=self.step, values={"loss": loss}, detail=detail)

    def write_out(self) -> None:
        out = self.folder / "out"
        out.mkdir(exist_ok=True)
        if self.wish.get("is_copied"):  # for those who want a model that can be registered
            shutil.copyfile(self.folder / "base" / "model.safetensors", out / "model.safetensors")
            return
        header = json.dumps({"__metadata__": {"state": self.state}}).encode()
        (out / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)

    def tell(
        self, kind: str, *, step: int = 0, values: Any = None, text: str = "", detail: Any = None
    ) -> None:
        event = {"kind": kind, "at_ns": time.time_ns(), "step": step, "values": values or {}, "text": text}
        with (self.folder / "events.jsonl").open("a") as file:
            file.write(json.dumps({**event, "detail": detail or {}}) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
