"""What a command writes to a file: whole or not at all, so that nobody reads half of an export."""

import sys
from collections.abc import Iterable
from pathlib import Path

from penstock.base.errors import InvalidInput


def save_pieces(pieces: Iterable[bytes], path: Path) -> int:
    """Write pieces to a file that appears when it is whole, and return how many bytes.

    Raises `InvalidInput` where it cannot be written; what `pieces` raises passes, and nothing is left behind.
    """
    part = path.with_name(f"{path.name}.part")
    size = 0
    try:
        with part.open("wb") as file:
            for piece in pieces:
                size += file.write(piece)
        part.replace(path)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        part.unlink(missing_ok=True)
    return size


def print_pieces(pieces: Iterable[bytes]) -> int:
    """Write pieces to standard output as they come, and return how many bytes."""
    size = 0
    for piece in pieces:
        size += sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()
    return size
