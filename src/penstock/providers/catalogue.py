"""The providers that are known by name: one row each, no code. Dialect, auth, variable, address and price id are theirs.

A row is used when its key variable is set, or when the operator names it. Prices are found in genai-prices under
`price_id`; `local` means that the calls cost nothing because the operator runs the server.
"""

import re
from collections.abc import Mapping

import msgspec

from penstock.base.errors import NotFound, suggest
from penstock.providers.auth.port import MissingKey
from penstock.providers.data.hosted import CLOUDS, HOSTS, MODEL_MAKERS
from penstock.providers.data.local import LOCAL
from penstock.spec.routes import Provider

PROVIDERS: tuple[Provider, ...] = (*MODEL_MAKERS, *CLOUDS, *HOSTS, *LOCAL)

_PLACEHOLDER = re.compile(r"\{([A-Z][A-Z0-9_]*)\}")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_OTHER_NAMES = {
    "AWS_REGION": ("AWS_DEFAULT_REGION",),
    "GOOGLE_CLOUD_PROJECT": ("GCP_PROJECT", "GCLOUD_PROJECT"),
    "GOOGLE_CLOUD_LOCATION": ("GOOGLE_CLOUD_REGION",),
}
"""Variables that say the same; the first one that is set counts."""
_MANY_PURPOSES = frozenset(
    {"GITHUB_TOKEN", "HF_TOKEN", "GCP_ACCESS_TOKEN", "DATABRICKS_TOKEN", "CLOUDFLARE_API_TOKEN"}
)
"""Variables that are set for other reasons than to call models: alone they wake no provider."""


def find_provider(name: str) -> Provider:
    """Return the row called `name`; raise `NotFound` that names the nearest one."""
    for provider in PROVIDERS:
        if provider.name == name:
            return provider
    names = [provider.name for provider in PROVIDERS]
    raise NotFound(
        f"No provider is known as {name!r}.",
        hint=suggest(name, names) or f"Known: {', '.join(names)}. Any other needs a base_url.",
    )


def providers_with_keys(environ: Mapping[str, str]) -> tuple[Provider, ...]:
    """Return the hosted providers whose key variable is set in `environ`, their addresses not yet filled.

    Keys that serve many purposes do not count: who sets one has not asked for models.
    """
    return tuple(
        provider
        for provider in PROVIDERS
        if provider.price_id != "local"
        and provider.api_key_env is not None
        and provider.api_key_env not in _MANY_PURPOSES
        and environ.get(provider.api_key_env)
    )


def address_variables(provider: Provider) -> tuple[str, ...]:
    """Return the variables that the provider's address is filled from, in order."""
    return tuple(dict.fromkeys(_PLACEHOLDER.findall(provider.base_url)))


def all_address_variables() -> frozenset[str]:
    """Return every variable that addresses of the catalogue may be filled from: their values are no secrets."""
    named = {name for provider in PROVIDERS for name in address_variables(provider)}
    return frozenset(named.union(*(_OTHER_NAMES.get(name, ()) for name in named)))


def fill_base_url(provider: Provider, environ: Mapping[str, str]) -> Provider | MissingKey:
    """Return the provider with every `{VARIABLE}` of its address filled, or the first variable that is not usable.

    A variable at the very beginning holds a whole address (`https://…`); any other holds a name, in which nothing can
    lead to another host: letters, digits, dots, hyphens and underscores.
    """
    url = provider.base_url
    for variable in address_variables(provider):
        names = (variable, *_OTHER_NAMES.get(variable, ()))
        value = next((text for name in names if (text := environ.get(name, "").strip())), "")
        place = f"{{{variable}}}"
        if url.startswith(place):
            value = value.rstrip("/")
            value = value if "://" in value or not value else f"https://{value}"
            is_usable = value.startswith(("https://", "http://")) and not set(value) & set(" ?#@\\{}\"'")
        else:
            is_usable = _NAME.fullmatch(value) is not None
        if not is_usable:
            return MissingKey(variable=variable)
        url = url.replace(place, value)
    return provider if url == provider.base_url else msgspec.structs.replace(provider, base_url=url)
