"""`penstock mcp`: knowledge bases and apps as tools for one agent, over standard input and output."""

import asyncio
from typing import Annotated
from urllib.parse import quote

import typer

from penstock import __version__
from penstock.apps.mcp_server import serve_stdio
from penstock.base.errors import InvalidInput
from penstock.base.late import late_imports
from penstock.cli.options import DEFAULT_HOME, HomeOption, open_home, verb_app
from penstock.main.home_files import read_admin_key
from penstock.main.instance import require_instance
from penstock.spec.callers import GROUPS_HEADER

with late_imports():
    from penstock.apps import mcp_host

app = verb_app()


@app.command(epilog="Example: penstock mcp --home ./home  (as the command of an MCP client)")
def mcp(
    *,
    url: Annotated[
        str | None,
        typer.Option(help="The gateway's address.  [default: of the Penstock that runs on the home]"),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            envvar="PENSTOCK_KEY", help="A key with the scope `call`.  [default: the owner's of the home]"
        ),
    ] = None,
    user: Annotated[str | None, typer.Option(help="For whom documents are searched and read.")] = None,
    group: Annotated[list[str] | None, typer.Option(help="A group of that user; may be repeated.")] = None,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Serve an MCP client (Model Context Protocol) over standard input and output, through the running gateway."""
    if url is not None and key is None:
        raise InvalidInput("A gateway elsewhere needs a key.", hint="Give --key or set PENSTOCK_KEY.")
    if url is None:
        opened = open_home(home)
        url = require_instance(opened).addresses.gateway_url
        key = key or read_admin_key(opened)
    headers = {"authorization": f"Bearer {key}"}
    if user:
        headers["x-penstock-user"] = user
    if group:
        headers[GROUPS_HEADER] = ",".join(quote(each, safe="") for each in group)
    asyncio.run(_serve(url.rstrip("/").removesuffix("/v1"), headers))


async def _serve(url: str, headers: dict[str, str]) -> None:
    import aiohttp

    async with aiohttp.ClientSession(trust_env=False) as session:
        await serve_stdio(mcp_host.GatewayHost(session, f"{url}/v1", headers), version=__version__)
