"""Penstock's gateway beside LiteLLM's proxy, Portkey's gateway and the bare relay, in one run; and all six dialects.

Peers are installed from their package registries into a throw-away folder (PEERS_FOLDER keeps it between runs). Each has
core 0 for itself while it is measured; the upstream and the load generator share core 1. Rounds alternate; the figures
are medians. Penstock runs with keys, limits, spans and cost on; the peers as their guides start them, without a database.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop

from record import record_result
from relay import run_floor
from stage import (
    KEY,
    Load,
    Upstream,
    bench_key,
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
)

ROUNDS = int(os.environ.get("GATEWAY_ROUNDS", "3"))
SECONDS = int(os.environ.get("GATEWAY_SECONDS", "4"))
WITH_DIALECTS = os.environ.get("GATEWAY_DIALECTS", "1") != "0"
CONNECTIONS = (1, 32)
LITELLM = "litellm[proxy]"
PORTKEY = "@portkey-ai/gateway"
DIALECTS = ("openai", "responses", "anthropic", "gemini", "bedrock", "cohere")
PATHS = {
    "openai": "/chat/completions",
    "responses": "/responses",
    "anthropic": "/messages",
    "gemini": ":generateContent",
    "bedrock": "/converse",
    "cohere": "/v2/chat",
}
"""What the upstream knows a dialect's request by."""


# -- peers


def install_peers(folder: Path) -> dict[str, str]:
    """Install both peers below `folder` where they are not; return their versions."""
    folder.mkdir(parents=True, exist_ok=True)
    python = folder / "litellm" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder / "litellm")], check=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", LITELLM], check=True, stdout=sys.stderr
        )
    show = [
        str(python),
        "-c",
        "from importlib.metadata import version as v; print(v('litellm'), v('uvicorn'))",
    ]
    versions = dict(
        zip(("litellm", "litellm_uvicorn"), subprocess.check_output(show, text=True).split(), strict=True)
    )
    portkey = folder / "portkey"
    if shutil.which("npm") is None:
        return versions
    if not (portkey / "node_modules").exists():
        portkey.mkdir(exist_ok=True)
        subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", PORTKEY],
            cwd=portkey,
            check=True,
            stdout=sys.stderr,
        )
    listed = (portkey / "node_modules" / PORTKEY / "package.json").read_text()
    versions["portkey"] = next(
        line.split('"')[3] for line in listed.splitlines() if line.strip().startswith('"version"')
    )
    return versions


def litellm_command(folder: Path, port: int, upstream: str, peers: Path) -> list[str]:
    """Return the command of LiteLLM's proxy with one model and a master key."""
    config = folder / "litellm.yaml"
    config.write_text(
        "model_list:\n  - model_name: gpt-4o-mini\n    litellm_params:\n      model: openai/gpt-4o-mini\n"
        f"      api_base: {upstream}\n      api_key: sk-none\ngeneral_settings:\n  master_key: sk-{KEY}\n"
        "litellm_settings:\n  telemetry: false\n"
    )
    program = peers / "litellm" / "bin" / "litellm"
    return [
        str(program),
        "--config",
        str(config),
        "--port",
        str(port),
        "--host",
        "127.0.0.1",
        "--num_workers",
        "1",
    ]


def portkey_command(port: int, peers: Path) -> list[str]:
    """Return the command of Portkey's gateway."""
    script = peers / "portkey" / "node_modules" / PORTKEY / "build" / "start-server.js"
    return ["node", str(script), f"--port={port}", "--headless"]


def peer_loads(ports: dict[str, int], upstream: str) -> dict[str, Load]:
    """Return what to send to each."""

    def url(name: str) -> str:
        return f"http://127.0.0.1:{ports[name]}/v1/chat/completions"

    loads = {name: Load(url=url(name)) for name in ("upstream", "floor", "penstock")}
    if "litellm" in ports:
        loads["litellm"] = Load(url=url("litellm"), headers={"authorization": f"Bearer sk-{KEY}"})
    if "portkey" in ports:
        loads["portkey"] = Load(
            url=url("portkey"),
            headers={
                "authorization": f"Bearer {KEY}",
                "x-portkey-provider": "openai",
                "x-portkey-custom-host": upstream,
            },
        )
    return loads


def compare_peers(folder: Path, peers: Path, names: Sequence[str]) -> dict[str, Any]:
    """Measure every relay in turn, in alternating order."""
    ports = {name: free_port() for name in names}
    upstream = f"http://127.0.0.1:{ports['upstream']}/v1"
    home = folder / "home"
    write_routes(home, upstream, {})
    commands = {
        "upstream": (1, own_part(__file__, "upstream", ports["upstream"], "-"), {}),
        "floor": (0, own_part(__file__, "floor", ports["floor"], upstream), {}),
        "penstock": (0, own_part(__file__, "penstock", ports["penstock"], str(home)), {}),
    }
    if "litellm" in ports:
        commands["litellm"] = (
            0,
            litellm_command(folder, ports["litellm"], upstream, peers),
            {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        )
    if "portkey" in ports:
        commands["portkey"] = (0, portkey_command(ports["portkey"], peers), {"NODE_ENV": "production"})
    relays = [name for name in names if name != "upstream"]
    figures: dict[str, dict[int, list[dict[str, float]]]] = {
        name: {count: [] for count in CONNECTIONS} for name in relays
    }
    firsts: dict[str, list[float]] = {name: [] for name in ("upstream", *relays)}
    paced = ("upstream", "floor", "penstock")
    cpu: dict[str, list[float]] = {name: [] for name in paced[1:]}
    half: dict[str, list[dict[str, float]]] = {name: [] for name in paced}
    with children(commands, folder / "peers.log") as running:
        for port in ports.values():
            wait_for(port, 180)
        loads = peer_loads(ports, upstream)
        for name in relays:
            put_load(loads[name], 4, 2, folder)
        resident: dict[str, float] = {}
        for number in range(ROUNDS):
            for name in relays if number % 2 else relays[::-1]:
                for count in CONNECTIONS:
                    before_s = cpu_s(running[name].pid)
                    figures[name][count].append(put_load(loads[name], count, SECONDS, folder))
                if name in cpu:  # peers may start processes of their own
                    used_s = cpu_s(running[name].pid) - before_s  # of the last count, the most connections
                    cpu[name].append(used_s / figures[name][CONNECTIONS[-1]][-1]["n"] * 1e6)
            half_load = statistics.median(row["per_s"] for row in figures["penstock"][CONNECTIONS[-1]]) / 2
            for name in paced:
                half[name].append(put_paced_load(loads[name], half_load, SECONDS))
            for name in firsts:
                firsts[name] += uvloop.run(first_events(loads[name], 60))
        for name in relays:
            resident[name] = round(resident_mb(running[name].pid), 1)
    quantiles = {
        name: statistics.quantiles(values, n=100) if len(values) > 1 else None
        for name, values in firsts.items()
    }
    halves = {name: median_of(rows) for name, rows in half.items()}
    table = {
        name: {
            **{f"connections_{count}": median_of(figures[name][count]) for count in CONNECTIONS},
            "first_event_added_ms": added_ms(quantiles[name], quantiles["upstream"]),
            "n_streams_broken": 60 * ROUNDS - len(firsts[name]),
            "cpu_us_a_call": round(statistics.median(cpu[name]), 1) if name in cpu else None,
            "resident_mb": resident[name],
        }
        for name in relays
    }
    many = CONNECTIONS[-1]
    own = [row["per_s"] for row in figures["penstock"][many]]
    ratios = {
        name: round(
            statistics.median(
                a / b["per_s"] for a, b in zip(own, figures[name][many], strict=True)
            ),
            2,
        )
        for name in relays
        if name != "penstock"
    }  # fmt: skip
    added = {
        name: {
            part: round(halves[name][f"{part}_ms"] - halves["upstream"][f"{part}_ms"], 3)
            for part in ("p50", "p99")
        }
        for name in ("floor", "penstock")
    }
    return {"relays": table, "penstock_times": ratios, "half_load_added_ms": added}


def added_ms(own: list[float] | None, direct: list[float] | None) -> dict[str, float] | None:
    """Return how much later the first event came than from the upstream itself; None where none came."""
    if own is None or direct is None:
        return None
    return {"p50": round(own[49] - direct[49], 3), "p99": round(own[98] - direct[98], 3)}


# -- dialects


def write_routes(home_root: Path, upstream: str, dialect_models: dict[str, str]) -> None:
    """Write a home with `gpt-4o-mini`, and one route for each dialect of the upstream."""
    from penstock.deploy.snapshots import build_snapshot, write_snapshot
    from penstock.spec.home import Home
    from penstock.spec.routes import Provider, Route, Target

    home = Home(root=home_root)
    home.snapshot.parent.mkdir(parents=True, exist_ok=True)
    providers = [Provider(name="openai", base_url=upstream, auth="none", price_id="openai")]
    routes = [Route(name="gpt-4o-mini", targets=(Target(provider="openai", model="gpt-4o-mini"),))]
    base = upstream.removesuffix("/v1")
    bases = {"gemini": f"{base}/v1beta", "bedrock": base, "cohere": f"{base}/v2"}
    for dialect, model in dialect_models.items():
        providers.append(
            Provider(
                name=f"up-{dialect}",
                dialect=dialect,  # type: ignore[arg-type]
                base_url=bases.get(dialect, upstream),
                auth="none",
                price_id="openai",
            )
        )
        routes.append(Route(name=f"via-{dialect}", targets=(Target(provider=f"up-{dialect}", model=model),)))
    write_snapshot(
        home.snapshot,
        build_snapshot(providers=providers, routes=routes, keys=[bench_key()]),  # type: ignore[list-item]
    )


def hub_pair() -> tuple[Any, Any]:
    """Return one request and one reply in the hub format."""
    from penstock.spec.hub import Choice, HubReply, HubRequest, Message, Text
    from penstock.spec.usage import Usage

    request = HubRequest(
        source="openai",
        model="MODEL",
        messages=[
            Message(role="system", parts=[Text(text="You answer questions about health in two sentences.")]),
            Message(role="user", parts=[Text(text="How much should I walk to lower my blood pressure?")]),
        ],
        max_tokens=200,
    )
    reply = HubReply(
        source="openai",
        id="bench",
        model="bench-model",
        created_s=1_700_000_000,
        choices=[
            Choice(
                parts=[Text(text="Walking for half an hour on most days lowers it a little. " * 5)],
                finish="stop",
            )
        ],
        usage=Usage(input_uncached=24, output_text=60),
    )
    return request, reply


def dialect_loads(port: int, client: str, route: str) -> Load:
    """Return the load that a client of `client` puts on `route`."""
    import msgspec

    from penstock.dialects.registry import DIALECTS as KNOWN

    request, _ = hub_pair()
    request = msgspec.structs.replace(request, model=route)
    written = KNOWN[client].write_request(request, model=route, quirks=frozenset())  # type: ignore[index]
    prefix = {
        "openai": "/v1",
        "responses": "/v1",
        "anthropic": "/v1",
        "gemini": "/v1beta",
        "cohere": "/v2",
    }.get(client, "")
    return Load(url=f"http://127.0.0.1:{port}{prefix}{written.path}", body=written.body)


def measure_dialects(folder: Path) -> dict[str, Any]:
    """Return calls per second for each upstream dialect (OpenAI client), each client dialect (OpenAI upstream), and
    each dialect with itself."""
    ports = {"upstream": free_port(), "penstock": free_port()}
    upstream = f"http://127.0.0.1:{ports['upstream']}/v1"
    home = folder / "home-dialects"
    write_routes(home, upstream, dict.fromkeys(DIALECTS, "bench-model"))
    commands = {
        "upstream": (1, own_part(__file__, "upstream", ports["upstream"], "-"), {}),
        "penstock": (0, own_part(__file__, "penstock", ports["penstock"], str(home)), {}),
    }
    pairs = dict.fromkeys(
        [("openai", name) for name in DIALECTS]
        + [(name, "openai") for name in DIALECTS]
        + [(name, name) for name in DIALECTS]
    )
    rows: dict[str, dict[str, float]] = {}
    with children(commands, folder / "dialects.log"):
        for port in ports.values():
            wait_for(port)
        for client, target in pairs:
            load = dialect_loads(ports["penstock"], client, f"via-{target}")
            put_load(load, 4, 1, folder)
            rows[f"{client} → {target}"] = median_of(
                [put_load(load, CONNECTIONS[-1], SECONDS / 2, folder) for _ in range(ROUNDS)]
            )
    return rows


def serve_upstream(port: int) -> None:
    """Serve the static upstream in all six dialects."""
    from penstock.dialects.registry import DIALECTS as KNOWN

    request, reply = hub_pair()
    Upstream.replies = {
        PATHS[name].lower().encode(): KNOWN[name].write_reply(reply, model="bench-model", request=request)  # type: ignore[index]
        for name in DIALECTS
        if name != "openai"
    }
    uvloop.run(run_upstream(port))


def measure() -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="penstock-bench-"))
    kept = os.environ.get("PEERS_FOLDER")
    peers = Path(kept) if kept else folder / "peers"
    try:
        versions = install_peers(peers)
        names = ["upstream", "floor", "penstock", "litellm"] + ["portkey"] * ("portkey" in versions)
        results = compare_peers(folder, peers, names)
        if WITH_DIALECTS:
            results["dialects_per_s"] = measure_dialects(folder)
        results["peer_versions"] = versions
    except BaseException:
        for log in folder.glob("*.log"):
            print(log.read_text(errors="replace")[-4000:], file=sys.stderr)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return results


def main() -> None:
    if len(sys.argv) == 1:
        record_result("gateway", measure(), packages=("uvicorn", "uvloop", "httptools", "aiohttp", "msgspec"))
        return
    part, port, argument = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    if part == "upstream":
        serve_upstream(port)
    elif part == "floor":
        run_floor(port, argument)
    else:
        run_gateway(port, Path(argument))


if __name__ == "__main__":
    main()
