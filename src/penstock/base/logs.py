"""Structured logs: one JSON object a line on standard error, with secrets blacked out.

Knows nothing of settings: the process's composition root calls `configure_logs` once.
"""

import json
import logging
import re
import sys
from typing import Any

from penstock.base.clock import iso_from_ns, now_ns

_SECRET_NAME = re.compile(r"(?i)(api[-_]?key|authorization|secret|token$|password|cookie)")
_SECRET_TEXT = re.compile(
    r"(?<![A-Za-z0-9])(?:ps|sk|pk|rk)[-_][A-Za-z0-9_\-]{12,}|(?i:bearer)\s+[A-Za-z0-9._\-]{8,}"
)
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def redact(value: Any, *, name: str = "") -> Any:
    """Return `value` with anything that looks like a key replaced by `[redacted]`."""
    if name and _SECRET_NAME.search(name):
        return "[redacted]"
    if isinstance(value, str):
        return _SECRET_TEXT.sub("[redacted]", value)
    if isinstance(value, dict):
        return {key: redact(item, name=str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item) for item in value]
    return value


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON: time, level, logger, message, extras, exception."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": iso_from_ns(now_ns()),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        for name, value in record.__dict__.items():
            if name not in _STANDARD:
                line[name] = redact(value, name=name)
        if record.exc_info:
            line["exception"] = redact(self.formatException(record.exc_info))
        return json.dumps(line, default=str)


def configure_logs(*, level: str = "info", process: str = "penstock") -> None:
    """Send every log record of this process to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("penstock").debug("logs configured", extra={"process_name": process})
