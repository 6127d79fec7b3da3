"""The embedded engine beside the raw llama.cpp server: tokens a second, time to first token, embeddings.

Both run in processes of their own with the same file, threads and slots: `raw` is xllamacpp's own HTTP server
asked at its native `/completion`, `front` is our engine process asked at `/v1/chat/completions`, which also
renders the messages. Rounds alternate, so that a busy machine is busy for both. With `--minilm FOLDER` the
embeddings of a Hugging Face folder are measured and held against the numpy reference too.

    python bench/engine.py [--model HF_FOLDER] [--minilm HF_FOLDER] [--rounds N]
"""

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import ClientSession, TCPConnector

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.record import record_result
from tests.tuning.tiny_models import CHAT_TEMPLATE, train_bpe

from penstock.providers.engines.app import EngineApp
from penstock.providers.engines.serve import serve_engine
from penstock.providers.engines.types import HostedModel, ServedModel
from penstock.spec.messages import Message
from penstock.tuning.convert.architectures import BertShape, read_shape
from penstock.tuning.convert.gguf_file import convert_folder
from penstock.tuning.convert.safetensors import Weights, write_safetensors
from penstock.tuning.parity import SAMPLE_TEXTS
from penstock.tuning.references import bert_embedding
from penstock.tuning.renderer import Renderer, build_renderer, read_renderer_spec

KEY = "bench"
N_TOKENS = 200


def make_question(number: int) -> list[Message]:
    """Return a prompt of a handbook question's size that no cache has seen."""
    facts = "".join(
        f"[{i % 3 + 1}] Thirty minutes a day is a good start, number {number}.\n" for i in range(10)
    )
    return [Message(role="user", content=f"{number} {facts}Question: how long should I walk?")]


def make_pocket_sized(folder: Path) -> Path:
    """Write a random Llama of Pocket's shape (3.7 M parameters with a 4,096 vocabulary)."""
    folder.mkdir(parents=True, exist_ok=True)
    hidden, ffn, layers, vocab = 256, 512, 4, 4096
    tokenizer = train_bpe(folder)
    # every id prints: a token without text would not be streamed, and nothing would be measured
    tokenizer.add_tokens([f" w{number}" for number in range(vocab - tokenizer.get_vocab_size())])
    tokenizer.save(str(folder / "tokenizer.json"))
    rng = np.random.default_rng(5)

    def draw(*size: int) -> Any:
        return (rng.standard_normal(size) * 0.05).astype(np.float32)

    tensors = {
        "model.embed_tokens.weight": draw(vocab, hidden),
        "model.norm.weight": np.ones(hidden, np.float32),
    }
    for layer in range(layers):
        at = f"model.layers.{layer}."
        for name, rows, columns in (
            ("self_attn.q_proj", hidden, hidden),
            ("self_attn.k_proj", hidden, hidden),
            ("self_attn.v_proj", hidden, hidden),
            ("self_attn.o_proj", hidden, hidden),
            ("mlp.gate_proj", ffn, hidden),
            ("mlp.up_proj", ffn, hidden),
            ("mlp.down_proj", hidden, ffn),
        ):
            tensors[f"{at}{name}.weight"] = draw(rows, columns)
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{at}{name}.weight"] = np.ones(hidden, np.float32)
    write_safetensors(folder / "model.safetensors", tensors)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "vocab_size": vocab,
        "max_position_embeddings": 1024,
        "rms_norm_eps": 1e-5,
        "rope_theta": 100000.0,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 4095,  # an id that random weights hardly ever choose: replies run to their limit
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<|bos|>", "chat_template": CHAT_TEMPLATE})
    )
    return folder


def load(folder: Path) -> Renderer:
    """Return the renderer of a Hugging Face folder."""
    return build_renderer(read_renderer_spec(folder), (folder / "tokenizer.json").read_bytes())


def host(folder: Path, gguf: Path, name: str) -> HostedModel:
    """Return a converted folder as a hosted model."""
    shape = read_shape(folder)
    served = ServedModel(
        name=name,
        kind="embedding" if isinstance(shape, BertShape) else "chat",
        version="bench",
        gguf=gguf,
        renderer=gguf,
        tokenizer=folder / "tokenizer.json",
        context_length=shape.context_length,
        dims=shape.hidden_size,
    )
    return HostedModel(served=served, renderer=load(folder))


def run_front(arguments: list[str]) -> None:
    """Child process: our front on a port."""
    port, *pairs = arguments
    models = [host(Path(pairs[i + 1]), Path(pairs[i + 2]), pairs[i]) for i in range(0, len(pairs), 3)]
    serve_engine(EngineApp(models, internal_key=KEY), port=int(port))


def run_raw(arguments: list[str]) -> None:
    """Child process: xllamacpp's own HTTP server on a port, with the settings our engine uses."""
    import xllamacpp

    port, gguf, context = arguments
    params = xllamacpp.CommonParams()
    params.model.path = gguf
    params.n_ctx, params.n_parallel = int(context) * 4, 4
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.hostnames, params.port, params.api_keys = ["127.0.0.1"], int(port), [KEY]
    params.verbosity, params.warmup, params.fit_params, params.use_jinja, params.ui = (
        0,
        False,
        False,
        False,
        False,
    )
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    time.sleep(3600)


async def stream_one(session: ClientSession, url: str, body: dict[str, Any]) -> tuple[float, float, int]:
    """Return seconds to the first content, seconds to the end, and the tokens generated."""
    start = time.perf_counter()
    first, n_tokens = 0.0, 0
    async with session.post(url, json=body, headers={"Authorization": f"Bearer {KEY}"}) as answer:
        assert answer.status == 200, await answer.text()
        async for line in answer.content:
            if not line.startswith(b"data: {"):
                continue
            if not first and (b'"content":"' in line or b'"text":"' in line) and b'"content":""' not in line:
                first = time.perf_counter() - start
            if b"tokens_predicted" in line or b"completion_tokens" in line:
                event = json.loads(line[6:])
                usage = event.get("usage") or {}
                n_tokens = usage.get("completion_tokens") or event.get("tokens_predicted") or n_tokens
    return first, time.perf_counter() - start, n_tokens


def read_cpu_s(pid: int) -> float:
    """Return the processor seconds that a process has used, all threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(
    session: ClientSession, url: str, bodies: list[dict[str, Any]], pid: int
) -> dict[str, float]:
    """Return tokens a second over these calls at once, their median time to first token, and processor time.

    Processor time a token (prompt included) is the figure to compare on a machine that is busy otherwise.
    """
    start, cpu_s = time.perf_counter(), read_cpu_s(pid)
    answers = await asyncio.gather(*(stream_one(session, url, body) for body in bodies))
    took = time.perf_counter() - start
    return {
        "tokens_per_s": sum(answer[2] for answer in answers) / took,
        "cpu_us_per_token": (read_cpu_s(pid) - cpu_s) * 1e6 / sum(answer[2] for answer in answers),
        "ttft_ms": statistics.median(answer[0] for answer in answers) * 1e3,
    }


async def compare(
    front: tuple[str, int], raw: tuple[str, int], renderer: Renderer, rounds: int
) -> dict[str, Any]:
    """Alternate between the two (address and process id) and return medians and ratios for 1 and 4 calls at once."""
    results: dict[str, Any] = {
        "prompt_tokens": len(renderer.render_chat(make_question(1000))),
        "reply_tokens": N_TOKENS,
    }
    numbers = iter(range(1000, 10_000))

    def ask_front() -> dict[str, Any]:
        return {
            "model": "chat",
            "messages": [{"role": m.role, "content": m.content} for m in make_question(next(numbers))],
            "max_tokens": N_TOKENS,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def ask_raw() -> dict[str, Any]:
        ids = renderer.render_chat(make_question(next(numbers)))
        return {"prompt": ids, "n_predict": N_TOKENS, "temperature": 0, "stream": True}

    # the raw server drops idle connections after 5 s: each call opens its own, to both
    async with ClientSession(connector=TCPConnector(force_close=True)) as session:
        for n_at_once in (1, 4):
            seen: dict[str, list[dict[str, float]]] = {"front": [], "raw": []}
            for number in range(rounds + 1):
                pairs = [
                    ("raw", f"{raw[0]}/completion", ask_raw, raw[1]),
                    ("front", f"{front[0]}/v1/chat/completions", ask_front, front[1]),
                ]
                for name, url, make, pid in pairs if number % 2 else reversed(pairs):
                    figures = await measure(session, url, [make() for _ in range(n_at_once)], pid)
                    if number:  # the first round warms up
                        seen[name].append(figures)
            table = {
                name: {key: round(statistics.median(row[key] for row in rows), 2) for key in rows[0]}
                for name, rows in seen.items()
            }
            table["ratio_tokens_per_s"] = round(
                table["front"]["tokens_per_s"] / table["raw"]["tokens_per_s"], 3
            )
            table["ratio_cpu"] = round(
                table["raw"]["cpu_us_per_token"] / table["front"]["cpu_us_per_token"], 3
            )
            table["ratio_ttft"] = round(table["raw"]["ttft_ms"] / table["front"]["ttft_ms"], 3)
            table["ttft_added_ms"] = round(table["front"]["ttft_ms"] - table["raw"]["ttft_ms"], 2)
            results[f"{n_at_once}_at_once"] = table
    return results


async def measure_embeddings(front: str, folder: Path) -> dict[str, Any]:
    """Return texts and tokens a second through the front, and agreement with the numpy reference."""
    shape = read_shape(folder)
    assert isinstance(shape, BertShape)
    texts = [f"{number}. {SAMPLE_TEXTS[number % 3]} {SAMPLE_TEXTS[(number + 1) % 3]}" for number in range(64)]
    async with ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as session:

        async def embed(given: list[str]) -> tuple[Any, float, int]:
            start = time.perf_counter()
            async with session.post(
                f"{front}/v1/embeddings", json={"model": "embed", "input": given}
            ) as answer:
                body = await answer.json()
            return (
                [item["embedding"] for item in body["data"]],
                time.perf_counter() - start,
                body["usage"]["total_tokens"],
            )

        await embed(texts[:4])
        _, took, n_tokens = await embed(texts)
        single = statistics.median([(await embed(["How long should I walk?"]))[1] for _ in range(20)])
        rows = np.array((await embed(list(SAMPLE_TEXTS)))[0])
    weights = Weights(folder)
    tensors = dict(weights)
    weights.close()
    ids = load(folder).encode_texts(SAMPLE_TEXTS)
    references = np.stack([bert_embedding(shape, tensors, item) for item in ids])
    return {
        "texts_per_s": round(len(texts) / took, 1),
        "tokens_per_s": round(n_tokens / took),
        "one_query_ms": round(single * 1e3, 1),
        "min_cosine_with_reference": round(float((rows * references).sum(axis=1).min()), 6),
    }


def start(role: str, *arguments: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start a child of this script on a free port and return it with its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    child = subprocess.Popen([sys.executable, __file__, role, str(port), *arguments])
    for _ in range(400):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return child, f"http://127.0.0.1:{port}"
        time.sleep(0.05)
    raise SystemExit(f"{role} did not start")


def main() -> None:
    if sys.argv[1:2] == ["--front"]:
        run_front(sys.argv[2:])
        return
    if sys.argv[1:2] == ["--raw"]:
        run_raw(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", type=Path, help="a chat model's Hugging Face folder (default: random, Pocket's shape)"
    )
    parser.add_argument("--minilm", type=Path, help="an embedding model's Hugging Face folder")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.model or make_pocket_sized(Path(scratch) / "chat")
        gguf = Path(scratch) / "chat.gguf"
        convert_folder(folder, gguf, precision="f16")
        arguments = ["chat", str(folder), str(gguf)]
        if args.minilm:
            convert_folder(args.minilm, Path(scratch) / "embed.gguf", precision="f16")
            arguments += ["embed", str(args.minilm), str(Path(scratch) / "embed.gguf")]
        children = []
        try:
            raw, raw_url = start("--raw", str(gguf), str(read_shape(folder).context_length))
            children.append(raw)
            front, front_url = start("--front", *arguments)
            children.append(front)
            results = asyncio.run(
                compare((front_url, front.pid), (raw_url, raw.pid), load(folder), args.rounds)
            )
            if args.minilm:
                results["embeddings"] = asyncio.run(measure_embeddings(front_url, args.minilm))
        finally:
            for child in children:
                child.terminate()
                child.wait()
    record_result("engine", results, packages=("xllamacpp", "uvicorn", "tokenizers"))


if __name__ == "__main__":
    main()
