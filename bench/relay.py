"""How much the gateway costs: requests per second and latency beside a bare uvicorn + aiohttp relay, in one run.

Gateway (keys, limits, spans, cost on) and floor take turns on one core; the static upstream and the load
generator (wrk, or a small client of our own where it is not installed) share the other. Rounds alternate; the
figures are medians. Time to first token is measured at one connection, from the request to the first event.
`bench/gateway.py` adds the peers, `bench/streams.py` paced streams, `bench/soak.py` memory over a million calls.
"""

import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import uvloop

from record import record_result
from stage import (
    N_CONNECTIONS,
    Load,
    children,
    cpu_s,
    first_events,
    free_port,
    median_of,
    own_part,
    put_load,
    put_paced_load,
    resident_mb,
    run_gateway,
    run_upstream,
    wait_for,
    write_home,
)

ROUNDS = int(os.environ.get("RELAY_ROUNDS", "5"))
SECONDS = int(os.environ.get("RELAY_SECONDS", "3"))


def make_floor(upstream: str) -> Any:
    """Return the least an ASGI relay can be: one aiohttp session, no features."""
    import aiohttp

    session: aiohttp.ClientSession | None = None

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal session
        if scope["type"] == "lifespan":
            while (await receive())["type"] == "lifespan.startup":
                session = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=0),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    auto_decompress=False,
                )
                await send({"type": "lifespan.startup.complete"})
            await session.close()  # type: ignore[union-attr]
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        assert session is not None
        async with session.post(
            f"{upstream}/chat/completions", data=body, headers={"content-type": "application/json"}
        ) as reply:
            kind = reply.headers["content-type"].encode()
            if kind.startswith(b"text/event-stream"):
                await send(
                    {
                        "type": "http.response.start",
                        "status": reply.status,
                        "headers": [(b"content-type", kind)],
                    }
                )
                async for piece in reply.content.iter_any():
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
                return
            data = await reply.read()
        headers = [(b"content-type", kind), (b"content-length", b"%d" % len(data))]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": data})

    return app


def run_floor(port: int, upstream: str) -> None:
    """Serve the floor."""
    import uvicorn

    uvicorn.run(make_floor(upstream), host="127.0.0.1", port=port, loop="uvloop", http="httptools", access_log=False,
                log_level="error")  # fmt: skip


def measure() -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="penstock-bench-"))
    ports = {name: free_port() for name in ("upstream", "floor", "gateway")}
    upstream = f"http://127.0.0.1:{ports['upstream']}/v1"
    write_home(folder, upstream)
    commands = {
        name: (
            core,
            own_part(__file__, name, ports[name], str(folder) if name == "gateway" else upstream),
            {},
        )
        for name, core in (("upstream", 1), ("floor", 0), ("gateway", 0))
    }
    try:
        with children(commands, folder / "bench.log") as running:
            for port in ports.values():
                wait_for(port)
            names = ("floor", "gateway")
            loads = {
                name: Load(url=f"http://127.0.0.1:{ports[name]}/v1/chat/completions")
                for name in ("upstream", *names)
            }
            resident_idle = resident_mb(running["gateway"].pid)
            for name in names:
                put_load(loads[name], N_CONNECTIONS, 1, folder)
            many: dict[str, list[dict[str, float]]] = {name: [] for name in names}
            one: dict[str, list[dict[str, float]]] = {name: [] for name in names}
            half: dict[str, list[dict[str, float]]] = {name: [] for name in loads}
            cpu: dict[str, list[float]] = {name: [] for name in names}
            firsts: dict[str, list[float]] = {name: [] for name in loads}
            for number in range(ROUNDS):
                for name in names if number % 2 else names[::-1]:
                    before_s = cpu_s(running[name].pid)
                    many[name].append(put_load(loads[name], N_CONNECTIONS, SECONDS, folder))
                    cpu[name].append((cpu_s(running[name].pid) - before_s) / many[name][-1]["n"] * 1e6)
                    one[name].append(put_load(loads[name], 1, max(1, SECONDS // 2), folder))
                half_load = statistics.median(row["per_s"] for row in many["gateway"]) / 2
                for name, load in loads.items():
                    half[name].append(put_paced_load(load, half_load, SECONDS))
                    firsts[name] += uvloop.run(first_events(load, 100))
            resident = resident_mb(running["gateway"].pid)
        spool_mb = sum(path.stat().st_size for path in (folder / "spool").rglob("*.log")) / 1e6
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    ratio = statistics.median(
        gateway["per_s"] / floor["per_s"]
        for gateway, floor in zip(many["gateway"], many["floor"], strict=True)
    )
    quantiles = {name: statistics.quantiles(values, n=100) for name, values in firsts.items()}
    direct = quantiles["upstream"]
    halves = {name: median_of(rows) for name, rows in half.items()}
    return {
        "ratio_to_floor": round(ratio, 3),
        "cpu_us_a_call": {name: round(statistics.median(cpu[name]), 1) for name in names},
        "half_load_added_ms": {
            name: {
                part: round(halves[name][f"{part}_ms"] - halves["upstream"][f"{part}_ms"], 3)
                for part in ("p50", "p99")
            }
            for name in names
        },
        "half_load_n": halves["gateway"]["n"],
        "load": "wrk" if shutil.which("wrk") else "own client",
        f"connections_{N_CONNECTIONS}": {name: median_of(many[name]) for name in names},
        "connections_1": {name: median_of(one[name]) for name in names},
        "first_event_added_ms": {
            name: {
                "p50": round(quantiles[name][49] - direct[49], 3),
                "p99": round(quantiles[name][98] - direct[98], 3),
            }
            for name in names
        },
        "gateway_resident_mb": {"idle": round(resident_idle, 1), "after": round(resident, 1)},
        "spans_written_mb": round(spool_mb, 1),
        "rounds": ROUNDS,
    }


def main() -> None:
    if len(sys.argv) == 1:
        record_result("relay", measure(), packages=("uvicorn", "uvloop", "httptools", "aiohttp", "msgspec"))
        return
    part, port, argument = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    if part == "upstream":
        uvloop.run(run_upstream(port))
    elif part == "floor":
        run_floor(port, argument)
    else:
        run_gateway(port, Path(argument))


if __name__ == "__main__":
    main()
