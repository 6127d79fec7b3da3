"""Where the SDK gets prompts: from Penstock, else the last good copy in memory, else the one on disk. Standard library only.

Nobody waits longer than a bound: a request runs in a thread of its own and goes on there when its caller has gone by
an older copy. What has come is written to disk, so that a program can start while Penstock is away.
"""

import hashlib
import http.client
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from penstock.base.files import write_atomic
from penstock.sdk.settings import SdkSettings

MAX_BYTES = 8 * 1024 * 1024
_log = logging.getLogger("penstock.sdk")


class Refused(Exception):
    """Penstock answered, and not with a prompt."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Away(Exception):
    """Penstock could not be asked."""


@dataclass(frozen=True)
class Copy:
    """What was fetched, and when (wall clock, so that it means something on disk)."""

    value: dict[str, Any]
    fetched_s: float


class Connection:
    """Asks the control process. A connection for each request: they are rare."""

    def __init__(self, settings: SdkSettings) -> None:
        parts = urlsplit(settings.url)
        assert parts.hostname is not None
        self._host, self._port, self._base = parts.hostname, parts.port, parts.path.rstrip("/")
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._key = settings.key
        self._timeout_s = settings.timeout_s

    def fetch(self, name: str, version: str | None) -> dict[str, Any]:
        """Return a version with what it needs to be filled in; raise `Refused`, `Away`."""
        query = {"with_examples": "true", **({"version": version} if version else {})}
        return self._ask("GET", f"/api/v1/prompts/{quote(name, safe='')}?{urlencode(query)}", None)

    def render(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return what Penstock makes of variables; raise `Refused`, `Away`."""
        return self._ask("POST", "/api/v1/prompts/render", json.dumps(body).encode())

    def _ask(self, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        connection = self._kind(self._host, self._port, timeout=self._timeout_s)
        headers = {"authorization": f"Bearer {self._key or ''}", "content-type": "application/json"}
        try:
            connection.request(method, self._base + path, body=body, headers=headers)
            response = connection.getresponse()
            data = response.read(MAX_BYTES)
            value = json.loads(data)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Away(f"{type(error).__name__}: {error}") from error
        finally:
            connection.close()
        if response.status >= http.client.INTERNAL_SERVER_ERROR:
            raise Away(f"it answered with status {response.status}")
        if response.status != http.client.OK or not isinstance(value, dict):
            told = value.get("error", {}) if isinstance(value, dict) else {}
            hint = f" {told['hint']}" if told.get("hint") else ""
            raise Refused(response.status, f"{told.get('message', f'status {response.status}')}{hint}")
        return value


class PromptSource:
    """Copies by reference. Safe to use from several threads, and after a fork."""

    def __init__(
        self, settings: SdkSettings, *, connection: Any = None, now_s: Callable[[], float] = time.time
    ) -> None:
        """`connection` stands in for the way to Penstock in tests."""
        self.connection = connection or Connection(settings)
        self._folder = _folder_of(settings)
        self._now_s = now_s
        self._lock = threading.Lock()
        self._copies: dict[str, Copy] = {}
        self._asked: dict[str, threading.Event] = {}
        self._tried_s: dict[str, float] = {}
        self._errors: dict[str, Exception] = {}

    def after_fork(self) -> None:
        """Forget what other threads were doing: they are not in this process."""
        self._lock = threading.Lock()
        self._asked = {}

    def get(self, name: str, version: str | None, *, max_age_s: float, wait_s: float) -> Copy | Exception:
        """Return a copy no older than `max_age_s` if there is one; else the last good one, renewed in the background.

        Without any copy in memory the first request is waited for, at most `wait_s`; then comes the copy on disk, else
        why there is none.
        """
        reference = f"{name}@{version}" if version else name
        kept = self._copies.get(reference)
        is_pinned = version is not None and (version.isdigit() or version.startswith("sha256:"))
        if kept is not None:
            age_s = self._now_s() - max(kept.fetched_s, self._tried_s.get(reference, 0.0))
            if not is_pinned and not 0 <= age_s < max_age_s:
                self._renew(reference, name, version)
            return kept
        done = self._renew(reference, name, version)
        done.wait(wait_s)
        kept = self._copies.get(reference)
        if kept is not None:
            return kept
        reason = self._errors.get(reference) or Away(f"it did not answer within {wait_s:g} s")
        kept = self._read(reference)
        if kept is None:
            return reason
        _log.warning("penstock: the prompt %s comes from disk, since %s", reference, _why(reason))
        with self._lock:
            return self._copies.setdefault(reference, kept)

    def _renew(self, reference: str, name: str, version: str | None) -> threading.Event:
        """Ask for it in a thread, unless one is asking already; return what is set when that has ended."""
        with self._lock:
            running = self._asked.get(reference)
            if running is not None:
                return running
            done = self._asked[reference] = threading.Event()
            self._tried_s[reference] = self._now_s()
        threading.Thread(
            target=self._fetch, args=(reference, name, version, done), name="penstock-prompt", daemon=True
        ).start()
        return done

    def _fetch(self, reference: str, name: str, version: str | None, done: threading.Event) -> None:
        try:
            copy = Copy(self.connection.fetch(name, version), self._now_s())
            with self._lock:
                self._copies[reference] = copy
                self._errors.pop(reference, None)
            self._write(reference, copy)
        except (Refused, Away) as error:
            if str(error) != str(self._errors.get(reference)):
                _log.warning("penstock: the prompt %s could not be fetched: %s", reference, _why(error))
            self._errors[reference] = error
        except Exception as error:  # the edge of this thread: its caller goes by an older copy
            self._errors[reference] = error
            _log.debug("penstock: fetching a prompt failed", exc_info=True)
        finally:
            with self._lock:
                self._asked.pop(reference, None)
            done.set()

    def _place(self, reference: str) -> Path | None:
        if self._folder is None:
            return None
        return self._folder / f"{hashlib.sha256(reference.encode()).hexdigest()[:32]}.json"

    def _write(self, reference: str, copy: Copy) -> None:
        place = self._place(reference)
        if place is None:
            return
        try:
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            text = json.dumps({"reference": reference, "fetched_s": copy.fetched_s, "value": copy.value})
            write_atomic(place, text.encode(), mode=0o600)
        except OSError:
            _log.debug("penstock: a prompt could not be kept on disk", exc_info=True)

    def _read(self, reference: str) -> Copy | None:
        place = self._place(reference)
        if place is None:
            return None
        try:
            kept = json.loads(place.read_bytes())
            if kept["reference"] != reference or not isinstance(kept["value"], dict):
                return None
            return Copy(kept["value"], float(kept["fetched_s"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _folder_of(settings: SdkSettings) -> Path | None:
    """Return where copies lie: by address and key, since what one key may see is not for another."""
    if settings.spill_folder is None:
        return None
    whose = hashlib.sha256(f"{settings.url}\n{settings.key}".encode()).hexdigest()[:16]
    return settings.spill_folder.parent / "prompts" / whose


def _why(error: Exception) -> str:
    if isinstance(error, Refused):
        return f"Penstock refused it: {error}"
    return f"Penstock is away ({error})"


class Sources:
    """The source of each address and key that is configured."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: tuple[SdkSettings, PromptSource] | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def find(self, settings: SdkSettings) -> PromptSource:
        """Return the source for these settings; new settings begin anew."""
        found = self._found
        if found is not None and (found[0].url, found[0].key) == (settings.url, settings.key):
            return found[1]
        with self._lock:
            source = PromptSource(settings)
            self._found = settings, source
            return source

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        if self._found is not None:
            self._found[1].after_fork()


SOURCES = Sources()
