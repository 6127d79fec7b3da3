"""`penstock.toml`: what may stand in it, and reading it with errors that name line, cause and cure.

No secret stands in the file: keys are named by environment variable, or by the name of a sealed secret. Everything
has a default, so an absent file is the same as an empty one.
"""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from penstock.base.toml_lines import KeyPath, locate_lines, nearest_line
from penstock.deploy.limit_sections import NamedLimitRuleSettings, NamedPriceSettings
from penstock.deploy.rows import price_name
from penstock.deploy.section_problems import SectionProblem, describe_problem, write_path
from penstock.deploy.section_types import Port, ProviderName, RouteName, Section, VariableName
from penstock.deploy.sections import ProviderSettings, RouteSettings
from penstock.main.errors import SettingsInvalid
from penstock.main.settings_problems import Problem, decode_text, invalid_settings, syntax_error
from penstock.main.trace_settings import TraceSettings

MAX_BYTES = 4 * 1024 * 1024


class LimitSettings(Section):
    """`[limits]`: bounds that hold for every call through the gateway."""

    max_body_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 25 * 1024 * 1024
    """Larger request bodies are refused with 413."""
    max_file_bytes: Annotated[int, Field(ge=1024, le=1 << 40)] = 512 * 1024 * 1024
    """Larger files at `/v1/files` are refused with 413."""
    max_project_file_bytes: Annotated[int, Field(ge=0, le=1 << 50)] = 10 * 1024 * 1024 * 1024
    """All files of a project together; 0 takes none."""
    max_json_depth: Annotated[int, Field(ge=4, le=512)] = 64
    """Request bodies nested deeper are refused."""
    max_concurrent_calls: Annotated[int, Field(ge=1, le=1_000_000)] = 2000
    """Calls in flight at once in one gateway process; more are refused with 503."""
    redis_url_env: VariableName | None = None
    """Variable with the URL of the Redis that gateways of several machines count in; unset: each machine its own."""
    rules: list[NamedLimitRuleSettings] = Field(default_factory=list, max_length=10_000)
    """`[[limits.rules]]`: requests, tokens and money per key, user, project, route or model."""


class StorageSettings(Section):
    """`[storage]`: where durable things live; unset means inside the home."""

    control_url: str | None = None
    """SQLAlchemy URL of the control tables, `sqlite:////path` or `postgresql://user@host/database`."""
    control_url_env: VariableName | None = None
    """Environment variable that holds the URL, when it contains a password."""
    blobs_url: str | None = None
    """fsspec URL of the artefacts, such as `s3://bucket/prefix`."""


class UpSettings(Section):
    """`[up]`: defaults of `penstock up`; the command line wins."""

    host: str = "127.0.0.1"
    """Address that gateway and console listen on."""
    port: Port = 4600
    """Port of the gateway; 0 takes a free one."""
    console_port: Port = 4601
    """Port of console and API; 0 takes a free one."""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Gateway processes."""


class TuningSettings(Section):
    """`[tuning]`: the environment that training runs in."""

    python: str | None = None
    """Its interpreter; unset: PENSTOCK_TUNE_PYTHON, else the one that `penstock tune install` has made."""
    network: bool = False
    """Whether the training libraries may reach hubs. Telemetry stays off."""


class Settings(Section):
    """The whole file."""

    providers: dict[ProviderName, ProviderSettings] = Field(default_factory=dict)
    routes: dict[RouteName, RouteSettings] = Field(default_factory=dict)
    limits: LimitSettings = LimitSettings()
    prices: list[NamedPriceSettings] = Field(default_factory=list, max_length=10_000)
    storage: StorageSettings = StorageSettings()
    traces: TraceSettings = TraceSettings()
    up: UpSettings = UpSettings()
    tuning: TuningSettings = TuningSettings()


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
    text = decode_text(data, path)
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise syntax_error(text, str(error), path) from error
    except RecursionError as error:
        raise SettingsInvalid(
            f"{path} is nested too deeply.", hint="Write tables as [section] headers."
        ) from error
    lines = locate_lines(text)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise invalid_settings(
            path, [_placed(describe_problem(Settings, item), lines) for item in error.errors()]
        ) from error
    found = SettingsFile(path=path, settings=settings, lines=lines)
    if problems := list(_contradictions(found)):
        raise invalid_settings(path, problems)
    return found


def _placed(problem: SectionProblem, lines: dict[KeyPath, int]) -> Problem:
    return Problem(
        line=nearest_line(lines, problem.path),
        where=write_path(problem.where),
        message=problem.message,
        hint=problem.hint,
    )


def _contradictions(file: SettingsFile) -> Iterator[Problem]:
    """Yield what is wrong between keys that are each right alone."""
    settings = file.settings
    for name, provider in settings.providers.items():
        where = ("providers", name)
        has_key = provider.api_key_env is not None or provider.secret is not None
        if provider.auth not in {None, "none", "sigv4", "gcp"} and not has_key and provider.base_url:
            yield file.problem(
                (*where, "auth"),
                f"{provider.auth!r} needs a key",
                "Name its environment variable in api_key_env, or a sealed one in secret.",
            )
        if provider.api_key_env is not None and provider.secret is not None:
            yield file.problem((*where, "secret"), "api_key_env is set too", "Keep one of the two.")
    for name in settings.routes:
        if not name.isascii() or not name.isprintable():
            yield file.problem(
                ("routes", name), "a route's name must be printable ASCII, because it stands in reply headers"
            )
    yield from _repeated(file, ("limits", "rules"), [rule.name for rule in settings.limits.rules])
    traces = settings.traces
    yield from _repeated(file, ("traces", "masks"), [mask.name for mask in traces.masks])
    yield from _repeated(file, ("traces", "forward"), [target.name for target in traces.forward])
    yield from _repeated(
        file, ("prices",), [price_name(price.provider, price.model) for price in settings.prices]
    )
    if settings.storage.control_url and settings.storage.control_url_env:
        yield file.problem(("storage", "control_url_env"), "control_url is set too", "Keep one of the two.")


def _repeated(file: SettingsFile, where: KeyPath, names: list[str]) -> Iterator[Problem]:
    for number, name in enumerate(names):
        if name in names[:number]:
            first = nearest_line(file.lines, (*where, names.index(name)))
            yield file.problem(
                (*where, number), f"{name!r} stands on line {first} already", "Keep one of them."
            )
