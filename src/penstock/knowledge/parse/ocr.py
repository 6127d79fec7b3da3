"""Text recognition through the `tesseract` program, where it is installed."""

import os
import re
import shutil
import subprocess

PROGRAM = "tesseract"
DOTS_PER_INCH = 200
MAX_SECONDS = 60.0
MAX_PIXELS = 40_000_000
MISSING = "text recognition needs the program tesseract (Debian: apt install tesseract-ocr)"
LANGUAGE = re.compile(r"[A-Za-z][A-Za-z_]{1,30}")
"""The name of a language, such as `deu` or `chi_sim`."""


def find_recogniser() -> str | None:
    """Return the path of the program, None where it is not installed."""
    return shutil.which(PROGRAM)


def recognise(picture: bytes, languages: list[str]) -> tuple[list[list[str]], str | None]:
    """Return the paragraphs of each page of a picture (PNG, JPEG, TIFF, PGM), and a problem where there is one."""
    program = find_recogniser()
    if program is None:
        return [], MISSING
    unknown = [each for each in languages if not LANGUAGE.fullmatch(each)]
    if unknown:
        return [], f"{unknown[0]!r} is no language of text recognition"
    try:
        done = subprocess.run(
            [program, "stdin", "stdout", "-l", "+".join(languages) or "eng", "--dpi", str(DOTS_PER_INCH)],
            input=picture,
            capture_output=True,
            timeout=MAX_SECONDS,
            check=False,
            env={**os.environ, "OMP_THREAD_LIMIT": "1"},
        )
    except subprocess.TimeoutExpired:
        return [], f"text recognition took more than {MAX_SECONDS:.0f} s"
    except OSError as error:
        return [], f"text recognition failed: {error}"
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return [], f"text recognition failed: {lines[-1][:200] if lines else done.returncode}"
    pages = done.stdout.decode("utf-8", "replace").removesuffix("\f").split("\f")
    return [_paragraphs(page) for page in pages], None


def as_picture(width: int, height: int, stride: int, greys: bytes) -> bytes:
    """Return rows of grey values as a picture (PGM); a row may be longer than it shows."""
    rows = greys if stride == width else b"".join(
        greys[start : start + width] for start in range(0, stride * height, stride)
    )  # fmt: skip
    return b"P5\n%d %d\n255\n" % (width, height) + rows


def _paragraphs(page: str) -> list[str]:
    return [join_lines(block) for block in re.split(r"\n\s*\n", page) if block.strip()]


def join_lines(block: str) -> str:
    """Return the lines of a paragraph as one, words cut at line ends made whole."""
    return re.sub(r"(\w)[-\u00ad]\n(?=[a-zà-ÿ])", r"\1", block.strip()).replace("\n", " ")
