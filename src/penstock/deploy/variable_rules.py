"""Which environment variables an object of the control tables may name. Pure.

Who edits objects is often not who keeps the machine. A variable that such a person may name is one that they can have
sent to a host of their own, so a variable with a place of its own goes nowhere else, and only what looks like a
provider's key goes anywhere. The settings file may name whatever it likes: its author has the environment too.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from urllib.parse import urlsplit

from penstock.deploy.row_problems import Found
from penstock.providers.auth.port import MissingKey
from penstock.providers.catalogue import all_address_variables, fill_base_url
from penstock.spec.routes import Provider
from penstock.store.sealing import origin_of

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_LOOKS_LIKE_A_KEY = re.compile(r"(?:^|_)(?:API_?)?(?:KEY|TOKEN)(?:_[A-Z0-9]+)?$", re.IGNORECASE)
_OF_OTHERS = re.compile(
    r"^(?:PENSTOCK|AWS|AZURE_CLIENT)_"
    r"|^(?:AZURE_OPENAI_AD_TOKEN|GOOGLE_APPLICATION_CREDENTIALS)$"
    r"|(?:^|_)(?:SECRET|PRIVATE|MASTER|SIGNING|ENCRYPTION|SESSION|SSH|PASSWORD|DATABASE|DB)(?:_|$)",
    re.IGNORECASE,
)
"""Variables of Penstock, of clouds, and of programs that sign or seal."""


class VariablePlaces:
    """Where the key of each variable is sent, as the catalogue, the environment and the settings file say."""

    def __init__(self, providers: Iterable[Provider], environ: Mapping[str, str]) -> None:
        self._origins: dict[str, set[str]] = {}
        self._patterns: dict[str, list[re.Pattern[str]]] = {}
        for provider in providers:
            variable = provider.api_key_env
            if variable is None:
                continue
            filled = fill_base_url(provider, environ)
            origins = self._origins.setdefault(variable, set())
            if not isinstance(filled, MissingKey):
                origins.add(origin_of(filled.base_url))
            if pattern := _origin_pattern(provider.base_url):
                self._patterns.setdefault(variable, []).append(pattern)

    def problems(
        self, provider: Provider, filled: Provider, *, own: Collection[str | None] = ()
    ) -> Iterator[Found]:
        """Yield what an object may not say, as it was written and with its address filled.

        `own` are the variables that Penstock's own settings name, such as those of databases.
        """
        for variable in _PLACEHOLDER.findall(provider.base_url):
            if variable not in all_address_variables():
                yield "base_url", f"its address may not be filled from the variable {variable[:80]!r}"
                return
        variable, origin = provider.api_key_env, origin_of(filled.base_url)
        if variable is None or _PLACEHOLDER.search(filled.base_url) or self._belongs(variable, origin):
            return
        instead = (
            f"seal the key for that host (penstock secret set NAME --url {origin}) and name it in secret, or write "
            "the provider in penstock.toml"
        )
        if variable in self._origins:
            known = ", ".join(sorted(self._origins[variable] - {""})) or "another host"
            yield "api_key_env", f"{variable} is the key for {known} and is not sent to {origin}; {instead}"
        elif variable in own or _OF_OTHERS.search(variable) or not _LOOKS_LIKE_A_KEY.search(variable):
            yield (
                "api_key_env",
                f"{variable} does not look like a provider's key, as LAB_KEY or LAB_API_TOKEN would; {instead}",
            )

    def _belongs(self, variable: str, origin: str) -> bool:
        if origin and origin in self._origins.get(variable, ()):
            return True
        return any(pattern.fullmatch(origin) for pattern in self._patterns.get(variable, ()))


def _origin_pattern(url: str) -> re.Pattern[str] | None:
    """Return what the origin of an address with `{VARIABLE}`s in its host looks like; None without any.

    A variable stands for one label of the host, so that what follows it keeps saying whose host it is.
    """
    if url.startswith("{"):
        return None
    origin = "://".join(urlsplit(url)[:2])
    if not _PLACEHOLDER.search(origin):
        return None
    parts = _PLACEHOLDER.split(origin)  # texts and names of variables in turn
    return re.compile("[a-z0-9-]+".join(re.escape(text.lower()) for text in parts[::2]))
