"""How the SDK is set: arguments of `penstock.configure` first, then the environment, then defaults.

A wrong argument is refused. A wrong environment variable is told in the log and passed over: a typo there must not
stop a program that works.
"""

import hashlib
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from penstock.sdk.errors import SdkSettingInvalid

DEFAULT_URL = "http://127.0.0.1:4601"
OFF_WORDS = frozenset({"0", "false", "no", "off"})
ON_WORDS = frozenset({"1", "true", "yes", "on"})
SHORT_LIVED = ("AWS_LAMBDA_FUNCTION_NAME", "FUNCTION_TARGET", "AZURE_FUNCTIONS_ENVIRONMENT")
"""Variables of platforms that freeze a process as soon as it has answered."""

Redaction = Callable[[str], str] | Collection[str]
"""A function over every text that is captured, or names of arguments and fields whose values are blacked out."""

_log = logging.getLogger("penstock.sdk")


@dataclass(frozen=True, kw_only=True)
class SdkSettings:
    """Everything that can be set. Sizes are bytes, times seconds."""

    url: str = DEFAULT_URL
    """The console's address of a running Penstock."""
    key: str | None = None
    """A key with the scope `call`; without one nothing is recorded."""
    service: str | None = None
    release: str | None = None
    environment: str | None = None
    sample: float = 1.0
    """Share of traces that are recorded; the same traces in every process, since the trace id decides."""
    capture: bool = True
    """Whether inputs, outputs and metadata are sent; times, models and tokens always are."""
    redact: Redaction | None = None
    is_on: bool = True
    max_buffer_bytes: int = 32 * 1024 * 1024
    """What may wait in memory; above it payloads are left out, then spans, both counted."""
    max_payload_bytes: int = 1024 * 1024
    """Of one input or output; what is longer is cut and says so."""
    max_batch_bytes: int = 512 * 1024
    """Of one request; common proxies refuse more than 1 MB."""
    spill_folder: Path | None = None
    """Where spans wait while nobody answers; None keeps them in memory, within its bound."""
    max_spill_bytes: int = 256 * 1024 * 1024
    interval_s: float = 0.5
    """How long spans gather before they are sent."""
    timeout_s: float = 10.0
    """Of one request."""
    exit_timeout_s: float = 2.0
    """How long the end of the program may wait for delivery; the rest goes to the spill folder."""
    flush_at_root: bool = False
    """Whether the end of a trace waits for delivery: for platforms that freeze the process between requests."""

    @property
    def is_recording(self) -> bool:
        """Whether spans are made at all."""
        return self.is_on and self.key is not None


def build_settings(given: Mapping[str, Any], environ: Mapping[str, str]) -> SdkSettings:
    """Return the settings; raise `SdkSettingInvalid` for a wrong value in `given`."""
    found = read_environ(environ)
    found.update({name: value for name, value in given.items() if value is not None})
    if "spill" in found:
        found["spill_folder"] = _as_folder(found.pop("spill"))
    settings = SdkSettings(**found)
    _check(settings)
    if "spill_folder" not in found:
        folder = _state_folder(environ)
        if folder is not None:
            settings = SdkSettings(**found, spill_folder=folder)
    return settings


def spill_place(settings: SdkSettings) -> Path | None:
    """Return the folder of this address and key: what waited for one project never reaches another."""
    if settings.spill_folder is None:
        return None
    whose = hashlib.sha256(f"{settings.url}\n{settings.key}".encode()).hexdigest()[:16]
    return settings.spill_folder / whose


def read_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return what the environment sets; what it sets wrongly is logged and left out."""
    found: dict[str, Any] = {}
    for field, names in {
        "url": ("PENSTOCK_URL",),
        "key": ("PENSTOCK_KEY",),
        "service": ("PENSTOCK_SERVICE", "OTEL_SERVICE_NAME"),
        "release": ("PENSTOCK_RELEASE",),
        "environment": ("PENSTOCK_ENVIRONMENT",),
        "spill": ("PENSTOCK_SPILL",),
    }.items():
        value = next((environ[name] for name in names if environ.get(name)), None)
        if value is not None:
            found[field] = value
    if "url" in found and not _is_url(found["url"]):
        _tell("PENSTOCK_URL", found.pop("url"), "an address such as http://127.0.0.1:4601")
    _read_sample(environ, found)
    for field, name in (("capture", "PENSTOCK_CAPTURE"), ("is_on", "PENSTOCK_TRACING")):
        word = environ.get(name, "").strip().lower()
        if word in OFF_WORDS or word in ON_WORDS:
            found[field] = word in ON_WORDS
        elif word:
            _tell(name, word, "on or off")
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        found["is_on"] = False
    if any(environ.get(name) for name in SHORT_LIVED):
        found["flush_at_root"] = True
    return found


def _read_sample(environ: Mapping[str, str], found: dict[str, Any]) -> None:
    text = environ.get("PENSTOCK_SAMPLE")
    if not text:
        return
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if 0 <= share <= 1:
        found["sample"] = share
    else:
        _tell("PENSTOCK_SAMPLE", text, "a share from 0 to 1")


def _check(settings: SdkSettings) -> None:
    if not _is_url(settings.url):
        raise SdkSettingInvalid(
            f"{settings.url!r} is no address of a Penstock.",
            hint=f"Give the console's, such as {DEFAULT_URL}.",
        )
    if not 0 <= settings.sample <= 1:
        raise SdkSettingInvalid(f"sample is {settings.sample}; it is a share from 0 to 1.")
    for name in ("max_buffer_bytes", "max_payload_bytes", "max_batch_bytes", "timeout_s", "interval_s"):
        if getattr(settings, name) <= 0:
            raise SdkSettingInvalid(f"{name} has to be more than 0.")
    if isinstance(settings.redact, str):
        raise SdkSettingInvalid(
            "redact is one text; it takes names or a function.", hint='Write redact=["password"].'
        )


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False


def _as_folder(spill: Any) -> Path | None:
    if spill is False or (isinstance(spill, str) and spill.strip().lower() in OFF_WORDS):
        return None
    return Path(spill).expanduser()


def _state_folder(environ: Mapping[str, str]) -> Path | None:
    """Return where programs keep such things (XDG Base Directory Specification), or None without a home."""
    state = environ.get("XDG_STATE_HOME")
    if state and Path(state).is_absolute():
        return Path(state) / "penstock" / "sdk"
    home = environ.get("HOME") or environ.get("USERPROFILE")
    return Path(home) / ".local" / "state" / "penstock" / "sdk" if home else None


def _tell(name: str, value: str, wanted: str) -> None:
    _log.warning("%s is %r, which is not %s: passed over", name, value, wanted)
