"""From a provider's row to its signer: which variable or secret holds what, for every kind of authentication."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from penstock.providers.auth.errors import CredentialsUnusable
from penstock.providers.auth.gcp import GcpSigner, read_service_account
from penstock.providers.auth.port import MissingKey, Signer, TokenFetch
from penstock.providers.auth.sigv4 import AwsKeys, SigV4Signer
from penstock.providers.auth.static import StaticSigner, bearer
from penstock.spec.routes import Provider

BEDROCK_KEY = "AWS_BEARER_TOKEN_BEDROCK"
AZURE_KEY = "AZURE_OPENAI_API_KEY"
ENTRA_TOKEN = "AZURE_OPENAI_AD_TOKEN"  # noqa: S105 - a variable's name
GCP_TOKEN = "GCP_ACCESS_TOKEN"  # noqa: S105 - a variable's name
GCP_FILE = "GOOGLE_APPLICATION_CREDENTIALS"
_AWS_HOST = re.compile(
    r"https://([a-z0-9-]+?)(?:-agent)?(?:-runtime)?(?:-fips)?\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?(?:[/:]|$)"
)
_GOOGLE_HOST = re.compile(r"https://[a-z0-9.-]+\.googleapis\.com(?:[/:]|$)")


def make_signer(
    provider: Provider,
    environ: Mapping[str, str],
    secrets: Mapping[str, str],
    *,
    fetch: TokenFetch | None = None,
    read_text: Callable[[str], str] = lambda path: Path(path).read_text("utf-8"),
) -> Signer | MissingKey:
    """Return the signer of `provider`, or what is missing for one.

    `secrets` holds the opened secrets of the snapshot by name. A row with `secret` takes its key from there alone.
    Variables that no row names are taken for the clouds' own hosts only: a token is not for whoever else is called.
    `fetch` is needed for Google service accounts only; without it they count as missing. Raises `CredentialsUnusable`
    when a credentials file is there and is no such file.
    """
    if provider.auth == "none":
        return StaticSigner()
    if provider.auth == "sigv4":
        return _aws(provider, environ, secrets)
    if provider.auth == "gcp":
        return _gcp(provider, environ, secrets, fetch, read_text)
    if provider.secret is None and provider.api_key_env is None:
        return StaticSigner()
    key = _own_key(provider, environ, secrets)
    if isinstance(key, MissingKey) and provider.auth == "api-key" and key.variable == AZURE_KEY:
        token = _clean(environ.get(ENTRA_TOKEN))
        return key if token is None else bearer(token)
    if isinstance(key, MissingKey):
        return key
    return bearer(key) if provider.auth == "bearer" else StaticSigner(provider.auth.encode(), key)


def _own_key(
    provider: Provider, environ: Mapping[str, str], secrets: Mapping[str, str]
) -> bytes | MissingKey:
    if provider.secret is not None:
        return _clean(secrets.get(provider.secret)) or MissingKey(variable=provider.secret)
    name = provider.api_key_env or ""
    return _clean(environ.get(name)) or MissingKey(variable=name)


def _clean(text: str | None) -> bytes | None:
    """Return a key as a header can carry it, or None: a line break in it would be another header."""
    text = (text or "").strip()
    return text.encode("ascii") if text and text.isascii() and text.isprintable() else None


def _aws(provider: Provider, environ: Mapping[str, str], secrets: Mapping[str, str]) -> Signer | MissingKey:
    """A secret is `KEY-ID:SECRET[:SESSION-TOKEN]` or a Bedrock API key; else the usual AWS variables count."""
    if provider.secret is not None:
        key = _clean(secrets.get(provider.secret))
        if key is None:
            return MissingKey(variable=provider.secret)
        parts = key.decode("ascii").split(":", 2)
        if len(parts) == 1:
            return bearer(key)
        return _sigv4(
            provider,
            environ,
            AwsKeys(
                access_key_id=parts[0],
                secret_access_key=parts[1],
                session_token=parts[2] if len(parts) > 2 else None,
            ),
        )
    usual = BEDROCK_KEY if _AWS_HOST.match(provider.base_url) else ""
    token = _clean(environ.get(provider.api_key_env or usual))
    if token is not None:
        return bearer(token)
    values: list[str] = []
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        found = _clean(environ.get(name))
        if found is None:
            return MissingKey(variable=name)
        values.append(found.decode("ascii"))
    session = _clean(environ.get("AWS_SESSION_TOKEN"))
    keys = AwsKeys(
        access_key_id=values[0],
        secret_access_key=values[1],
        session_token=session.decode("ascii") if session else None,
    )
    return _sigv4(provider, environ, keys)


def _sigv4(provider: Provider, environ: Mapping[str, str], keys: AwsKeys) -> Signer | MissingKey:
    found = _AWS_HOST.match(provider.base_url)
    region = (
        provider.region
        or (found.group(2) if found else None)
        or environ.get("AWS_REGION")
        or environ.get("AWS_DEFAULT_REGION")
    )
    if not region:
        return MissingKey(variable="AWS_REGION")
    return SigV4Signer(keys, region=region, service=found.group(1) if found else "bedrock")


def _gcp(
    provider: Provider,
    environ: Mapping[str, str],
    secrets: Mapping[str, str],
    fetch: TokenFetch | None,
    read_text: Callable[[str], str],
) -> Signer | MissingKey:
    """A secret is the text of a key file or a token; else a token's variable, else a key file's."""
    if provider.secret is not None:
        text = secrets.get(provider.secret, "").strip()
        if text.startswith("{"):
            account = read_service_account(text)
            return GcpSigner(account, fetch) if fetch else MissingKey(variable=provider.secret)
        token = _clean(text)
        return bearer(token) if token else MissingKey(variable=provider.secret)
    is_google = _GOOGLE_HOST.match(provider.base_url) is not None
    name = provider.api_key_env or GCP_TOKEN
    token = _clean(environ.get(name)) if is_google or provider.api_key_env is not None else None
    if token is not None:
        return bearer(token)
    path = environ.get(GCP_FILE, "").strip()
    if not path or fetch is None or not is_google:
        return MissingKey(variable=name)
    try:
        text = read_text(path)
    except (OSError, UnicodeError):
        raise CredentialsUnusable(
            f"The file that {GCP_FILE} names cannot be read.", hint="Is the path right and the file readable?"
        ) from None
    return GcpSigner(read_service_account(text), fetch)
