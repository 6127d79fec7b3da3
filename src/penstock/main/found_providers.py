"""Providers that the environment names, and the parts of addresses that it fills in. Pure."""

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

import msgspec

from penstock.deploy.rows import CATALOGUE
from penstock.main.errors import SettingsInvalid
from penstock.providers.auth.port import MissingKey
from penstock.providers.catalogue import all_address_variables, fill_base_url, providers_with_keys
from penstock.spec.routes import Provider

LOCAL_SERVERS = {"OLLAMA_HOST": "ollama", "VLLM_BASE_URL": "vllm", "LLAMACPP_BASE_URL": "llamacpp"}
"""Environment variables that name a local server, and the catalogue's row for it."""


def find_providers(environ: Mapping[str, str]) -> Iterator[Provider]:
    """Yield hosted providers whose key variable is set, then local servers that a variable names."""
    yield from providers_with_keys(environ)
    for variable, name in LOCAL_SERVERS.items():
        if address := environ.get(variable, "").strip():
            known = CATALOGUE[name]
            has_key = known.api_key_env is not None and bool(environ.get(known.api_key_env))
            yield msgspec.structs.replace(
                known,
                base_url=local_url(address, known.base_url, variable),
                auth=known.auth if has_key else "none",
                api_key_env=known.api_key_env if has_key else None,
            )


def local_url(address: str, usual: str, variable: str) -> str:
    """Return the base URL that a variable such as OLLAMA_HOST means: scheme, port and `/v1` may be left out."""
    usual_parts = urlsplit(usual)
    parts = urlsplit(address if "://" in address else f"http://{address}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if parts.scheme not in {"http", "https"} or not host:
        raise SettingsInvalid(
            f"The variable {variable} does not hold an address.",
            hint=f"Write it like {usual}.",
            variable=variable,
        )
    host = "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104 - servers announce what they bind
    shown = f"[{host}]" if ":" in host else host
    if port is None and "://" not in address:
        port = usual_parts.port
    path = parts.path.rstrip("/") or "/v1"
    return f"{parts.scheme}://{shown}{f':{port}' if port else ''}{path}"


def fill_address(provider: Provider, environ: Mapping[str, str]) -> Provider:
    """Return the provider with the `{VARIABLE}`s of its address filled, or as it is where one is not usable."""
    filled = fill_base_url(provider, environ)
    return provider if isinstance(filled, MissingKey) else filled


def missing_variable(provider: Provider, environ: Mapping[str, str]) -> str | None:
    """Return the first variable of the address that is not set to what can stand there, or None."""
    filled = fill_base_url(provider, environ)
    return filled.variable if isinstance(filled, MissingKey) else None


def address_variables() -> set[str]:
    """Return the variables whose values, not only their names, decide where calls go."""
    return {*LOCAL_SERVERS, *all_address_variables()}
