"""Text recognition through the `tesseract` program, where it is installed."""

import io
import os
import re
import shutil
import subprocess
from typing import Any

PROGRAM = "tesseract"
DOTS_PER_INCH = 200
MAX_SECONDS = 60.0
MAX_PIXELS = 40_000_000
MISSING = "text recognition needs the program tesseract (Debian: apt install tesseract-ocr)"
_LANGUAGE = re.compile(r"[A-Za-z][A-Za-z_]{1,30}")


def find_recogniser() -> str | None:
    """Return the path of the program, None where it is not installed."""
    return shutil.which(PROGRAM)


def recognise(image: Any, languages: list[str]) -> tuple[list[str], str | None]:
    """Return the paragraphs of a picture (Pillow's), and a problem where there is one."""
    program = find_recogniser()
    if program is None:
        return [], MISSING
    unknown = [each for each in languages if not _LANGUAGE.fullmatch(each)]
    if unknown:
        return [], f"{unknown[0]!r} is no language of text recognition"
    if image.width * image.height > MAX_PIXELS:
        return [], f"the picture has more than {MAX_PIXELS:,} points"
    buffer = io.BytesIO()
    image.convert("L").save(buffer, format="PNG")
    try:
        done = subprocess.run(
            [program, "stdin", "stdout", "-l", "+".join(languages) or "eng", "--dpi", str(DOTS_PER_INCH)],
            input=buffer.getvalue(),
            capture_output=True,
            timeout=MAX_SECONDS,
            check=False,
            env={**os.environ, "OMP_THREAD_LIMIT": "1"},
        )
    except subprocess.TimeoutExpired:
        return [], f"text recognition took more than {MAX_SECONDS:.0f} s"
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return [], f"text recognition failed: {lines[-1][:200] if lines else done.returncode}"
    text = done.stdout.decode("utf-8", "replace").replace("\f", "\n\n")
    return [join_lines(block) for block in re.split(r"\n\s*\n", text) if block.strip()], None


def join_lines(block: str) -> str:
    """Return the lines of a paragraph as one, words cut at line ends made whole."""
    return re.sub(r"(\w)[-\u00ad]\n(?=[a-zà-ÿ])", r"\1", block.strip()).replace("\n", " ")
