"""`penstock provider`: list."""

from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_rows
from penstock.main.rooms import Rooms

app = noun_app("Where calls can be sent: list.")


@app.callback()
def _noun() -> None:
    """Where calls can be sent."""


@app.command("list", epilog="Example: penstock provider list")
def list_providers(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List providers: from penstock.toml, from the environment, and built in."""
    rooms = Rooms(open_home(home, as_json=as_json))
    plan = rooms.plan()
    rows = [
        {
            "provider": provider.name,
            "origin": plan.origins[provider.name],
            "dialect": provider.dialect,
            "base_url": provider.base_url,
            "key": _key_text(provider.api_key_env, rooms),
            "prices": provider.price_id,
        }
        for provider in plan.providers
    ]
    print_rows(rows, ("provider", "origin", "dialect", "base_url", "key", "prices"), as_json=as_json)


def _key_text(variable: str | None, rooms: Rooms) -> str | None:
    if variable is None:
        return None
    return variable if rooms.environ.get(variable) else f"{variable} (not set)"
