"""`GET /metrics`: who may read it, and in which format."""

from collections.abc import Mapping
from ipaddress import ip_address

from penstock.gateway.admission import find_live_key
from penstock.gateway.errors import KeyLacksScope, NotReady
from penstock.gateway.http import Send, send_reply
from penstock.gateway.metering.text import choose_format
from penstock.gateway.metrics import Metrics
from penstock.gateway.table import Table

_READING = frozenset({"metrics", "owner", "internal"})


async def serve_metrics(
    metrics: Metrics,
    table: Table | None,
    headers: Mapping[bytes, bytes],
    secret: bytes | None,
    send: Send,
    *,
    is_open: bool,
) -> None:
    """Answer with the counts of all workers. Unless `is_open`, the key needs the scope `metrics` or `owner`."""
    if not is_open:
        if table is None:
            raise NotReady
        row = find_live_key(table, secret)
        if _READING.isdisjoint(row.scopes):
            raise KeyLacksScope(
                f"The key {row.name!r} may not read metrics.", hint="It needs the scope `metrics`."
            )
    content_type = choose_format(headers.get(b"accept", b""))
    page = await metrics.write_page(table, content_type)
    await send_reply(send, 200, [(b"content-type", content_type)], page)


def is_loopback(host: str) -> bool:
    """Return whether a listener at `host` can be reached only from this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
