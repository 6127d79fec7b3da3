"""Providers that the environment names, and the parts of addresses that it fills in. Pure."""

import re
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

import msgspec

from penstock.deploy.rows import CATALOGUE
from penstock.main.errors import SettingsInvalid
from penstock.providers.catalogue import providers_with_keys
from penstock.spec.routes import Provider

LOCAL_SERVERS = {"OLLAMA_HOST": "ollama", "VLLM_BASE_URL": "vllm", "LLAMACPP_BASE_URL": "llamacpp"}
"""Environment variables that name a local server, and the catalogue's row for it."""
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


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
    """Return the provider with each `{VARIABLE}` of its address that is set replaced by its value."""
    if "{" not in provider.base_url:
        return provider

    def value(found: re.Match[str]) -> str:
        return environ.get(found[1], "").strip() or found[0]

    return msgspec.structs.replace(provider, base_url=_PLACEHOLDER.sub(value, provider.base_url))


def missing_variable(provider: Provider) -> str | None:
    """Return the first variable of the address that is not set, or None."""
    found = _PLACEHOLDER.search(provider.base_url)
    return found[1] if found else None


def address_variables() -> set[str]:
    """Return the variables whose values, not only their names, decide where calls go."""
    placeholders = {name for row in CATALOGUE.values() for name in _PLACEHOLDER.findall(row.base_url)}
    return {*LOCAL_SERVERS, *placeholders}
