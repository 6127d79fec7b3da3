"""Progress of something that takes time: one moving line on a terminal, plain lines elsewhere."""

import sys
from types import TracebackType

from penstock.cli.output import printable

_PLAIN_STEP = 0.1


class ProgressLine:
    """Shows `tell(share, text)` on standard error; use as a context manager."""

    def __init__(self, label: str, *, quiet: bool = False) -> None:
        self._label = label
        self._quiet = quiet
        self._is_terminal = sys.stderr.isatty()
        self._last: tuple[float, str] = (-1.0, "")

    def __enter__(self) -> "ProgressLine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_terminal and not self._quiet and self._last[0] >= 0:
            print(file=sys.stderr)

    def tell(self, share: float | None, text: str) -> None:
        """Show how far it is; elsewhere than on a terminal only every tenth of the way."""
        if self._quiet:
            return
        now = share or 0.0
        if now < self._last[0]:
            self._last = (-1.0, "")  # something new has begun
        text = printable(text)
        percent = f"{now * 100:3.0f} %" if share is not None else "    "
        if self._is_terminal:
            print(f"\r\x1b[K{self._label} {percent} {text}"[:200], end="", file=sys.stderr, flush=True)
        elif now >= self._last[0] + _PLAIN_STEP or (now >= 1.0 > self._last[0]):
            print(f"{self._label} {percent} {text}", file=sys.stderr, flush=True)
        else:
            return
        self._last = (now, text)
