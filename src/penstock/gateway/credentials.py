"""The signers of a table's providers. What one provider lacks is told to its own callers and hinders no other."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from penstock.providers.auth.errors import CredentialsUnusable
from penstock.providers.auth.port import MissingKey, Signer, TokenFetch
from penstock.providers.auth.signers import GCP_FILE, make_signer
from penstock.spec.routes import Provider

_log = logging.getLogger("penstock.gateway")


@dataclass(frozen=True, kw_only=True, slots=True)
class NoSigner:
    """A provider cannot be called."""

    variable: str
    """What should hold its key: an environment variable or a secret's name."""
    hint: str
    """For who runs the gateway. Holds no key."""


class Credentials:
    """Makes the signer of each provider once, from variables and opened secrets."""

    def __init__(
        self, environ: Mapping[str, str], secrets: Mapping[str, str], fetch: TokenFetch | None
    ) -> None:
        """`secrets` are by the name of the provider: what one may be sent, another that names it too may not."""
        self._environ = environ
        self._secrets = secrets
        self._fetch = fetch
        self._made: dict[str, Signer | NoSigner] = {}

    def find(self, provider: Provider) -> Signer | NoSigner:
        """Return the signer of a provider, or what is the matter; credentials that are of no use are logged once."""
        made = self._made.get(provider.name)
        if made is None:
            made = self._made[provider.name] = self._make(provider)
        return made

    def _make(self, provider: Provider) -> Signer | NoSigner:
        text = self._secrets.get(provider.name)
        own = {provider.secret: text} if provider.secret is not None and text is not None else {}
        try:
            made = make_signer(provider, self._environ, own, fetch=self._fetch)
        except CredentialsUnusable as error:
            _log.error(
                "credentials cannot be used, calls to their provider are refused",
                extra={"provider": provider.name, "reason": str(error)},
            )
            hint = f"{error.message} {error.hint or ''}".strip()
            return NoSigner(variable=provider.secret or GCP_FILE, hint=hint)
        if isinstance(made, MissingKey):
            return NoSigner(variable=made.variable, hint=_tell_missing(provider, made.variable))
        return made


def _tell_missing(provider: Provider, variable: str) -> str:
    if provider.secret is not None:
        return f"The secret {provider.secret!r} could not be opened; the gateway's log says why."
    return f"Set the environment variable {variable} for the gateway, then restart it."
