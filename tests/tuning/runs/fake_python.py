"""An interpreter that starts the fake trainer, whatever trainer it is told to start."""

import sys
from pathlib import Path

FAKE = Path(__file__).with_name("fake_trainer.py")


def write_fake_python(folder: Path) -> Path:
    """Return a program that takes `-I TRAINER …` as the runtime's Python does."""
    path = folder / "python"
    path.write_text(f'#!/bin/sh\nshift 2\nexec "{sys.executable}" -I "{FAKE}" "$@"\n')
    path.chmod(0o755)
    return path
