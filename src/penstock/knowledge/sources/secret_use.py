"""Which sources are sent a secret of the vault, so that it is not taken from under them."""

import json

from sqlalchemy import Engine

from penstock.knowledge.credentials import named_secrets
from penstock.knowledge.sources import queries


def sources_with_secret(engine: Engine, secret: str) -> list[str]:
    """Return the sources whose settings name a secret, as `knowledge:BASE/SOURCE`."""
    with engine.connect() as connection:
        rows = queries.list_sources(connection)
    return [
        f"knowledge:{row.base}/{row.name}"
        for row in rows
        if secret in named_secrets([json.dumps(row.settings, ensure_ascii=False)])
    ]
