"""What local engines counted while a load test ran: tokens, replies, and how much their slots worked."""

import http.client
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from penstock.main.engine_files import list_engines
from penstock.main.instance import find_addresses
from penstock.spec.home import Home

TIMEOUT_S = 3.0
_COUNTED = ("requests", "failures", "prompt_tokens", "cached_tokens", "completion_tokens", "busy_s")
Counts = Mapping[str, Mapping[str, Any]]


def engine_urls(home: Home) -> list[str]:
    """Return where this installation's own engines listen."""
    urls = [f"http://127.0.0.1:{file.port}" for file in list_engines(home) if not file.command]
    shared = find_addresses(home).engine_url
    return urls if shared in urls else [shared, *urls]


class EngineCounts:
    """Asks engines for their counts. An engine that does not answer is left out: the test is not about it."""

    def __init__(self, find_urls: Callable[[], Sequence[str]], internal_key: str) -> None:
        self._find_urls, self._key = find_urls, internal_key

    def read(self) -> Counts:
        """Return counts by `URL model`."""
        found: dict[str, Mapping[str, Any]] = {}
        for url in self._find_urls():
            for model in self._ask(url):
                if isinstance(model, dict) and isinstance(model.get("name"), str):
                    found[f"{url} {model['name']}"] = model
        return found

    def subtract(self, before: Counts | None, after: Counts | None) -> dict[str, Any] | None:
        """Return what was counted in between, of models that did anything; None where there is nothing to tell.

        Engines that ended meanwhile (a hot swap) took their counts with them: `gone` names what they served.
        An engine that was begun anew counts from nothing, so what it tells is taken as it is.
        """
        models = []
        for key, told in (after or {}).items():
            earlier = (before or {}).get(key, {})
            is_anew = earlier.get("requests", 0) > told.get("requests", 0)
            counted = {
                name: round(told.get(name, 0) - (0 if is_anew else earlier.get(name, 0)), 6)
                for name in _COUNTED
            }
            if counted["requests"] > 0 or counted["failures"] > 0:
                facts = {name: told[name] for name in ("name", "version", "slots") if name in told}
                models.append({**facts, **counted})
        gone = [dict(told) for key, told in (before or {}).items() if key not in (after or {})]
        if not models and not gone:
            return None
        names = ("name", "version")
        return {
            "models": models,
            **(
                {"gone": [{name: one[name] for name in names if name in one} for one in gone]} if gone else {}
            ),
        }

    def _ask(self, url: str) -> list[Any]:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
        try:
            connection.request("GET", "/v1/engine", headers={"authorization": f"Bearer {self._key}"})
            response = connection.getresponse()
            told = json.loads(response.read())
            models = told.get("models") if response.status == 200 and isinstance(told, dict) else None
            return models if isinstance(models, list) else []
        except (OSError, http.client.HTTPException, ValueError):
            return []
        finally:
            connection.close()
