"""The process that parses: one document after another from its standard input, within limits it sets itself.

Started as `python -m penstock.knowledge.parse.child` and loads no more than the parsers. A frame is eight bytes
of length, then as many bytes. A request is a frame of JSON and a frame of the document; a reply is a frame that
begins with `d` (the document), `e` (an error of the document) or `m` (out of memory), in capitals where it is the
last of this process. When whoever started it is gone, it ends itself and what it started, also in the middle of a
document.
"""

import contextlib
import os
import resource
import signal
import sys
from types import FrameType
from typing import BinaryIO

import msgspec

from penstock.base.errors import PenstockError
from penstock.knowledge.parse.dispatch import parse_document
from penstock.knowledge.parse.frames import Failure, Request, read_frame, write_frame
from penstock.knowledge.parse.kept import pack_document
from penstock.spec.knowledge import ParseRecipe

MAX_DOCUMENTS = 500
LOOK_S = 1.0
"""How often a process at work looks whether it still has a starter; an idle one waits for its input to end."""


def main() -> None:
    """Parse until the input ends."""
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    _watch_starter()
    # What a library prints must not come between the replies.
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    for number in range(1, MAX_DOCUMENTS + 1):
        header = read_frame(requests)
        if header is None:
            return
        data = read_frame(requests)
        if data is None:
            return
        request = msgspec.json.decode(header, type=Request)
        reply = _parse(request, data)
        del data
        is_last = number == MAX_DOCUMENTS or _peak_mb() > request.retire_mb
        _answer(replies, reply[:1].upper() if is_last else reply[:1], reply[1:])
        if is_last:
            return


def _watch_starter() -> None:
    starter = os.getppid()

    def look(number: int, frame: FrameType | None) -> None:
        del number, frame
        if os.getppid() != starter:
            with contextlib.suppress(OSError):  # leads no group: somebody started it by hand
                os.killpg(os.getpid(), signal.SIGKILL)
            os._exit(1)

    signal.signal(signal.SIGALRM, look)


def _answer(replies: BinaryIO, kind: bytes, body: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):
        write_frame(replies, kind, body)
        replies.flush()


def _parse(request: Request, data: bytes) -> bytes:
    _limit(request.recipe)
    signal.setitimer(signal.ITIMER_REAL, LOOK_S, LOOK_S)
    try:
        return b"d" + pack_document(parse_document(request.name, data, request.recipe))
    except PenstockError as error:
        failure = Failure(code=error.code, message=error.message, hint=error.hint)
    except MemoryError:
        return b"m"
    except Exception as error:  # whatever a parser does on one hostile file is that document's error
        failure = Failure(code=None, message=f"{type(error).__name__}: {error}"[:500], hint=None)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        _unlimit()
    return b"e" + msgspec.json.encode(failure)


def _limit(recipe: ParseRecipe) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime + recipe.max_seconds) + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds if hard < 0 else min(seconds, hard), hard))
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    size = recipe.max_memory_mb * 1024 * 1024
    # Where a system does not count address space so (macOS), the limits of time stand alone.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (size if hard < 0 else min(size, hard), hard))


def _unlimit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def _peak_mb() -> int:
    # The peak that getrusage tells is handed down by the process that started this one, however large that was.
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/self/status") as status:  # noqa: PTH123
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) // 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (1024 * 1024) if sys.platform == "darwin" else peak // 1024


if __name__ == "__main__":
    main()
