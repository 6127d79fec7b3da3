"""`penstock.toml`: what may stand in it, and reading it with errors that name line, cause and cure.

No secret stands in the file: keys are named by environment variable. Everything has a default, so an
absent file is the same as an empty one.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from penstock.base.errors import suggest
from penstock.main.errors import SettingsInvalid
from penstock.main.toml_lines import KeyPath, locate_lines, nearest_line
from penstock.spec.routes import AuthKind, DialectName, RouteKind

PROVIDER_NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"
VARIABLE_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
MAX_BYTES = 4 * 1024 * 1024
_POSITION = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)")

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ProviderSettings(_Section):
    """`[providers.NAME]`: where calls can be sent. For a provider of the catalogue, every key is optional."""

    dialect: DialectName = "openai"
    """The wire protocol the provider speaks."""
    base_url: str | None = None
    """Ends before `/chat/completions`. Optional for providers of the catalogue."""
    api_key_env: Annotated[str, Field(pattern=VARIABLE_NAME)] | None = None
    """Name of the environment variable that holds the key."""
    auth: AuthKind | None = None
    """How the key is sent; by default as a bearer token when `api_key_env` is set."""
    price_id: str | None = None
    """Provider id in genai-prices. Unset: the catalogue's; unknown providers have no price."""
    timeout_s: Seconds = 600.0
    """Seconds a whole call may take, its stream included."""
    connect_timeout_s: Seconds = 5.0
    """Seconds until a connection must stand."""
    first_byte_timeout_s: Seconds = 120.0
    """Seconds until the first byte of the reply must come."""

    @field_validator("base_url")
    @classmethod
    def _is_http(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("must be an address such as https://api.example.com/v1")
        if parts.username or parts.password:
            raise ValueError("must hold no user name or password; name the key's variable in api_key_env")
        if parts.query or parts.fragment:
            raise ValueError("must have no ? or # part")
        return url.rstrip("/")


class TargetSettings(_Section):
    """One place a route can send a call to."""

    provider: str
    """A name under `[providers]`, or one of the catalogue."""
    model: Annotated[str, Field(min_length=1, max_length=256)]
    """What the provider calls the model."""
    weight: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """Share of the calls, relative to the other targets."""


class RouteSettings(_Section):
    """`[routes."NAME"]`: a name clients put into `model`."""

    targets: Annotated[list[TargetSettings], Field(min_length=1, max_length=64)]
    """Where calls go, chosen by weight; the others are fallbacks."""
    kind: RouteKind = "any"
    """What the route answers: chats, embeddings, or both."""


class LimitSettings(_Section):
    """`[limits]`: bounds that hold for every call through the gateway."""

    max_body_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 25 * 1024 * 1024
    """Larger request bodies are refused with 413."""
    max_json_depth: Annotated[int, Field(ge=4, le=512)] = 64
    """Request bodies nested deeper are refused."""
    max_concurrent_calls: Annotated[int, Field(ge=1, le=1_000_000)] = 2000
    """Calls in flight at once in one gateway process; more are refused with 503."""


class StorageSettings(_Section):
    """`[storage]`: where durable things live; unset means inside the home."""

    control_url: str | None = None
    """SQLAlchemy URL of the control tables, `sqlite:////path` or `postgresql://user@host/database`."""
    control_url_env: Annotated[str, Field(pattern=VARIABLE_NAME)] | None = None
    """Environment variable that holds the URL, when it contains a password."""
    blobs_url: str | None = None
    """fsspec URL of the artefacts, such as `s3://bucket/prefix`."""


class TraceSettings(_Section):
    """`[traces]`: what is written into spans."""

    capture_payloads: bool = True
    """Whether prompts and replies are kept in spans."""
    max_payload_bytes: Annotated[int, Field(ge=0, le=64 * 1024 * 1024)] = 1024 * 1024
    """Payloads over this are cut in the span, never in the call."""


class UpSettings(_Section):
    """`[up]`: defaults of `penstock up`; the command line wins."""

    host: str = "127.0.0.1"
    """Address that gateway and console listen on."""
    port: Port = 4600
    """Port of the gateway; 0 takes a free one."""
    console_port: Port = 4601
    """Port of console and API; 0 takes a free one."""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Gateway processes."""


class Settings(_Section):
    """The whole file."""

    providers: dict[Annotated[str, Field(pattern=PROVIDER_NAME)], ProviderSettings] = {}
    routes: dict[Annotated[str, Field(min_length=1, max_length=256)], RouteSettings] = {}
    limits: LimitSettings = LimitSettings()
    storage: StorageSettings = StorageSettings()
    traces: TraceSettings = TraceSettings()
    up: UpSettings = UpSettings()


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong in the file."""

    line: int | None
    where: str
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line is not None else ""
        hint = f" {self.hint}" if self.hint else ""
        return f"{place}{self.where}: {self.message}.{hint}"


@dataclass(frozen=True, kw_only=True)
class SettingsFile:
    """The settings, with the lines they stand on for whoever finds fault with them later."""

    path: Path
    settings: Settings
    lines: dict[KeyPath, int]

    def problem(self, where: KeyPath, message: str, hint: str | None = None) -> Problem:
        """Return a problem at the key `where`."""
        return Problem(
            line=nearest_line(self.lines, where), where=write_path(where), message=message, hint=hint
        )


def load_settings(path: Path) -> SettingsFile:
    """Return the settings in `path`, or the defaults when there is no such file.

    Raises `SettingsInvalid` with every problem found, each with its line.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return SettingsFile(path=path, settings=Settings(), lines={})
    except OSError as error:
        raise SettingsInvalid(f"{path} cannot be read: {error.strerror}.", path=str(path)) from error
    return parse_settings(data, path=path)


def parse_settings(data: bytes, *, path: Path) -> SettingsFile:
    """Return the settings that `data` holds; `path` is only named in errors."""
    if len(data) > MAX_BYTES:
        raise SettingsInvalid(f"{path} is larger than {MAX_BYTES} bytes; that is no settings file.")
    text = _decode(data, path)
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(text, str(error), path) from error
    except RecursionError as error:
        raise SettingsInvalid(
            f"{path} is nested too deeply.", hint="Write tables as [section] headers."
        ) from error
    lines = locate_lines(text)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise invalid_settings(path, [_problem(item, lines) for item in error.errors()]) from error
    found = SettingsFile(path=path, settings=settings, lines=lines)
    if problems := list(_contradictions(found)):
        raise invalid_settings(path, problems)
    return found


def invalid_settings(path: Path, problems: list[Problem]) -> SettingsInvalid:
    """Return one error that lists all `problems` of the file in the order of their lines."""
    ordered = sorted(problems, key=lambda problem: problem.line or 0)
    head = f"{path} has {len(ordered)} problem{'s' if len(ordered) > 1 else ''}:"
    return SettingsInvalid(
        "\n  ".join([head, *map(str, ordered)]),
        path=str(path),
        problems=[
            {"line": item.line, "where": item.where, "message": item.message, "hint": item.hint}
            for item in ordered
        ],
    )


def _decode(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SettingsInvalid(
            f"{path} line {line} is not UTF-8 text.",
            hint="Save the file as UTF-8.",
            path=str(path),
            line=line,
        ) from error


def _syntax_error(text: str, message: str, path: Path) -> SettingsInvalid:
    found = _POSITION.search(message)
    reason = _POSITION.sub("", message).rstrip(".")
    lines = text.split("\n")
    if found and found.group(1):
        line, column = int(found.group(1)), int(found.group(2))
    else:
        line = len(lines)
        while line > 1 and not lines[line - 1].strip():
            line -= 1
        column = len(lines[line - 1]) + 1
    shown = lines[line - 1].replace("\t", " ").rstrip("\r")[:200] if line <= len(lines) else ""
    caret = " " * (min(column, 201) - 1) + "^"
    return SettingsInvalid(
        f"{path} line {line}, column {column}: {reason}.\n  {shown}\n  {caret}",
        hint="Mend the line; `penstock config check` reads the file again.",
        path=str(path),
        line=line,
        column=column,
    )


def _problem(item: Mapping[str, Any], lines: dict[KeyPath, int]) -> Problem:
    path: KeyPath = tuple(part for part in item["loc"] if part != "[key]")
    line = nearest_line(lines, path)
    where = write_path(path)
    kind, value, context = item["type"], item.get("input"), item.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(path, line)
    if kind == "missing":
        return Problem(line=line, where=write_path(path[:-1]), message=f"the key {path[-1]!r} is missing")
    if kind == "string_pattern_mismatch":
        shape = "a provider's name" if context.get("pattern") == PROVIDER_NAME else "a variable's name"
        advice = (
            "Use lower-case letters, digits, dot, dash and underscore."
            if context.get("pattern") == PROVIDER_NAME
            else "Give the name of an environment variable, never the key itself."
        )
        return Problem(line=line, where=where, message=f"is not {shape}", hint=advice)
    if kind == "value_error":
        return Problem(line=line, where=where, message=str(item["msg"]).removeprefix("Value error, "))
    message = str(item["msg"])
    message = message.removeprefix("Input ").replace("Input ", "")
    message = message.replace("should be", "must be").replace("valid dictionary", "table")
    hint: str | None = f"Found {_shown(value)}." if value is not None else None
    if isinstance(value, str) and kind == "literal_error":
        known = re.findall(r"'([^']+)'", str(context.get("expected", "")))
        hint = suggest(value, known) or hint
    return Problem(line=line, where=where, message=message, hint=hint)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, int | float) else f"{str(value)[:40]!r}"


def _unknown_key(path: KeyPath, line: int | None) -> Problem:
    known = known_keys(path[:-1])
    near = suggest(str(path[-1]), known)
    hint = f"{near} Known here: {', '.join(known)}." if near else f"Known here: {', '.join(known)}."
    return Problem(
        line=line, where=write_path(path[:-1]), message=f"unknown key {str(path[-1])!r}", hint=hint
    )


def known_keys(path: KeyPath) -> list[str]:
    """Return the keys that may stand in the table at `path`, in the order of the documentation."""
    if not path:
        return list(Settings.model_fields)
    model: type[BaseModel] = {
        "providers": ProviderSettings,
        "routes": TargetSettings if len(path) > 2 else RouteSettings,
        "limits": LimitSettings,
        "storage": StorageSettings,
        "traces": TraceSettings,
        "up": UpSettings,
    }[str(path[0])]
    return list(model.model_fields)


def write_path(path: KeyPath) -> str:
    """Return `path` as TOML writes it: `routes."gpt-4o-mini".targets[0]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        else:
            word = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{part}"'
            text += f".{word}" if text else word
    return text or "the file"


def _contradictions(file: SettingsFile) -> Iterator[Problem]:
    """Yield what is wrong between keys that are each right alone."""
    settings = file.settings
    for name, provider in settings.providers.items():
        if provider.auth not in {None, "none"} and provider.api_key_env is None and provider.base_url:
            yield file.problem(
                ("providers", name, "auth"),
                f"{provider.auth!r} needs a key",
                "Name its environment variable in api_key_env.",
            )
    for name in settings.routes:
        if not name.isascii() or not name.isprintable():
            yield file.problem(
                ("routes", name), "a route's name must be printable ASCII, because it stands in reply headers"
            )
    if settings.storage.control_url and settings.storage.control_url_env:
        yield file.problem(("storage", "control_url_env"), "control_url is set too", "Keep one of the two.")
