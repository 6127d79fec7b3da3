"""`python -m penstock.main.probing_process HOME MODEL`: what a version's file says to the token ids on standard input.

For proofs of servers; the file is loaded by native code, which is kept out of the control process.
"""

import json
import sys
from pathlib import Path

from penstock.base.errors import PenstockError
from penstock.main.embedded import ModelRooms
from penstock.main.hosting import host_version
from penstock.providers.engines.llama import LlamaEngine
from penstock.providers.engines.types import Sampling
from penstock.spec.home import Home


def main() -> int:
    """Read, ask, print, and return the exit code."""
    root, label = sys.argv[1:]
    wanted = json.load(sys.stdin)
    try:
        hosted = host_version(ModelRooms(Home(root=Path(root))), label)
        longest = max(map(len, wanted["prompts"])) + int(wanted["max_tokens"]) + 8
        context_length = min(hosted.served.context_length, max(longest, 256))
        engine = LlamaEngine(hosted.served.gguf, kind="chat", context_length=context_length, n_slots=1)
        printable = hosted.renderer.encode_texts(["a"])[0][-1]
        shown = [
            {
                "top": engine.next_logprobs(ids, int(wanted["n_top"]), printable_id=printable),
                "text": _greedy(engine, ids, int(wanted["max_tokens"])),
            }
            for ids in wanted["prompts"]
        ]
    except PenstockError as error:
        sys.stdout.write(json.dumps({"error": error.as_dict()}) + "\n")
        return error.exit_code
    sys.stdout.write(json.dumps({"prompts": shown}) + "\n")
    return 0


def _greedy(engine: LlamaEngine, ids: list[int], max_tokens: int) -> str:
    pieces: list[str] = []
    sampling = Sampling(
        temperature=0.0,
        top_p=1.0,
        top_k=0,
        min_p=0.0,
        repeat_penalty=1.0,
        frequency_penalty=0.0,
        presence_penalty=0.0,
        max_tokens=max_tokens,
        stop=(),
        seed=None,
    )

    def take(text: str) -> bool:
        pieces.append(text)
        return False

    engine.generate(ids, sampling, take)
    return "".join(pieces)


if __name__ == "__main__":
    sys.exit(main())
