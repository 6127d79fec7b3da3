"""What a provider row must fulfil. Pure: looks up no name and opens no connection."""

import re
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from penstock.deploy.row_problems import Found, is_header_text, not_over_zero
from penstock.dialects.quirks import find_unknown
from penstock.providers.addresses import is_forbidden_name, literal_address
from penstock.spec.routes import AuthKind, DialectName, Provider
from penstock.store.sealing import origin_of, sealed_origin

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_OWN_HEADERS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that the transport writes."""
_KEY_NAME = re.compile(
    r"(?<!port)key|token|secret|auth|passw|pwd|cookie|signature|credential|bearer|jwt|(?<![a-z])sig(?![a-z])|^code$",
    re.IGNORECASE,
)
"""Names of headers and queries that carry keys: rows are shown, compared and remembered in clear, so these hold none."""
_FITTING: Mapping[AuthKind, tuple[DialectName, ...]] = {
    "sigv4": ("bedrock",),
    "x-goog-api-key": ("gemini",),
    "gcp": ("gemini", "anthropic", "openai"),
}
"""Ways to send a key that only servers of some dialects understand."""


def provider_problems(provider: Provider, secrets: Mapping[str, str]) -> Iterator[Found]:
    """Yield what is wrong; `secrets` are the sealed ones of the snapshot."""
    if not is_header_text(provider.name, longest=64):
        yield "name", "its name must be 1 to 64 printable ASCII characters"
    yield from _url_problems(provider)
    if provider.api_key_env is not None and not VARIABLE.fullmatch(provider.api_key_env):
        yield "api_key_env", "api_key_env is not the name of an environment variable"
    yield from not_over_zero(
        provider, "timeout_s", "connect_timeout_s", "first_byte_timeout_s", "idle_timeout_s"
    )
    fitting = _FITTING.get(provider.auth)
    if fitting is not None and provider.dialect not in fitting:
        yield (
            "auth",
            f"auth {provider.auth!r} is understood by servers of the dialect {' or '.join(fitting)} only",
        )
    if unknown := find_unknown(provider.quirks):
        yield "quirks", f"no quirk is called {', '.join(map(repr, unknown))}"
    yield from _constant_problems(provider)
    if provider.secret is not None:
        yield from _secret_problems(provider, provider.secret, secrets)


def _constant_problems(provider: Provider) -> Iterator[Found]:
    for name, value in provider.headers.items():
        if not _TOKEN.fullmatch(name):
            yield "headers", f"{name[:40]!r} is no name of a header"
        elif name.lower() in _OWN_HEADERS or name.lower().startswith("x-penstock-"):
            yield "headers", f"the header {name!r} is written by Penstock itself"
        elif _KEY_NAME.search(name):
            yield "headers", f"the header {name!r} carries keys; name the key in api_key_env or secret"
        if value and not is_header_text(value, longest=4096):
            yield "headers", f"the value of the header {name[:40]!r} must be printable ASCII"
    for name, value in provider.query.items():
        if not is_header_text(name, longest=128) or (value and not is_header_text(value, longest=1024)):
            yield "query", f"the query {name[:40]!r} must be printable ASCII"
        elif _KEY_NAME.search(name):
            yield "query", f"the query {name!r} carries keys; name the key in api_key_env or secret"


def _secret_problems(provider: Provider, secret: str, secrets: Mapping[str, str]) -> Iterator[Found]:
    if provider.local:
        yield "secret", "it is local and is sent the internal key, so it needs no secret"
    if provider.api_key_env is not None:
        yield "secret", "it names both api_key_env and secret; keep one of the two"
    sealed = secrets.get(secret)
    if sealed is None:
        known = ", ".join(sorted(secrets)) or "none"
        yield "secret", f"there is no secret {secret!r}; known: {known}"
        return
    bound, here = sealed_origin(sealed), origin_of(provider.base_url)
    if bound != here:
        yield (
            "secret",
            (
                f"the secret {secret!r} was entered for {bound} and is not sent to {here}; enter one for that "
                f"host and name it instead: penstock secret set NAME --url {here}"
            ),
        )


def _url_problems(provider: Provider) -> Iterator[Found]:
    """Yield what is wrong with the address.

    Providers are rows that somebody wrote, so private addresses are meant; see each exception here. Link-local
    addresses and metadata services are refused always: cloud machines serve their credentials there. What a name leads
    to is seen when a connection is made (`providers.transport`). A `local` row is sent this
    installation's internal key, so it may name this machine only.
    """
    url = provider.base_url
    if not url.isascii() or not url.isprintable() or " " in url:
        yield "base_url", "base_url has characters that no address has"
        return
    if missing := _PLACEHOLDER.search(url):
        yield "base_url", f"base_url needs the variable {missing[1]}, which is not set"
        return
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        yield "base_url", f"base_url cannot be read: {error}"
        return
    if parts.scheme not in {"http", "https"} or not host:
        yield "base_url", f"base_url {url!r} must begin with http:// or https:// and name a host"
        return
    if port == 0:
        yield "base_url", "base_url has port 0"
    if parts.username is not None or parts.password is not None:
        yield (
            "base_url",
            "base_url holds a user name or password; name the key's variable in api_key_env",
        )
    if parts.query or parts.fragment:
        yield "base_url", "base_url has a ? or # part"
    address = literal_address(host)
    if provider.local and host != "localhost" and not (address and address.is_loopback):
        yield "base_url", f"it is local but {host!r} is not a loopback address"
    elif is_forbidden_name(host):
        yield "base_url", f"base_url names {host}, an address that calls are never sent to"
