"""Kinds of values that people write in configuration, shared by `penstock.toml`, command line and REST."""

import datetime as dt
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from penstock.deploy.row_problems import is_writable

PROVIDER_NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"
VARIABLE_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
SECRET_NAME = r"^[a-z0-9][a-z0-9._-]{0,79}$"  # noqa: S105 - the shape of a name


class Section(BaseModel):
    """A table of configuration: unknown keys are errors, and values keep their type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _to_decimal(value: Any) -> Any:
    """Take numbers as they are written: `12.50` is exactly that, not the binary number next to it."""
    if isinstance(value, bool):
        raise ValueError("must be a number")
    if isinstance(value, int | float | str):
        try:
            value = Decimal(str(value))
        except InvalidOperation as error:
            raise ValueError("must be a number") from error
    if isinstance(value, Decimal) and not value.is_finite():
        raise ValueError("must be a finite number")
    if isinstance(value, Decimal) and not is_writable(value):
        raise ValueError("must have at most 30 digits, and be 0 or between 10^-12 and 10^16")
    return value


def _to_date_text(value: Any) -> Any:
    """Take a TOML date as well as its text."""
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value.isoformat()
    return value


def _check_date(text: str) -> str:
    try:
        if dt.date.fromisoformat(text).isoformat() == text:
            return text
    except ValueError:
        pass
    raise ValueError("must be a date written YYYY-MM-DD")


def _check_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise ValueError("must be an address such as https://api.example.com/v1")
    if "@" in parts.netloc:
        raise ValueError("must hold no user name or password; name the key's variable in api_key_env")
    if parts.query or parts.fragment:
        raise ValueError("must have no ? or # part")
    return url.rstrip("/")


Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(gt=0, le=1e6)]
ModelName = Annotated[str, Field(min_length=1, max_length=256)]
RouteName = Annotated[str, Field(min_length=1, max_length=256)]
ProviderName = Annotated[str, Field(pattern=PROVIDER_NAME)]
VariableName = Annotated[str, Field(pattern=VARIABLE_NAME)]
SecretName = Annotated[str, Field(pattern=SECRET_NAME)]
Amount = Annotated[Decimal, BeforeValidator(_to_decimal)]
Date = Annotated[str, BeforeValidator(_to_date_text), AfterValidator(_check_date)]
BaseUrl = Annotated[str, AfterValidator(_check_url)]
