"""Package: a trained Hugging Face folder as the model that ships with Penstock.

Converts to GGUF, proves parity with the source, and writes what `ModelService.ensure_shipped` registers:
model.gguf, tokenizer.json, renderer.json, CARD.md and manifest.json with the digest of each. Needs Penstock
installed, not torch. Run: `python recipes/pocket/package.py HF_FOLDER [--precision f16] [--card FILE]`.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from penstock.base.errors import PenstockError
from penstock.tuning.model_files import GGUF, RENDERER, TOKENIZER
from penstock.tuning.packaging import package_model, write_manifest
from penstock.tuning.sources import FetchedModel

SHIPPED = Path(__file__).resolve().parents[2] / "src" / "penstock" / "data" / "pocket"
MAX_BYTES = 12 * 1024 * 1024
DESCRIPTION = (
    "A very small chat model that answers from the passages it is given, or says that it does not know."
)


def write_card(content: dict, card: Path | None) -> str:
    """Return the card's text: what a person wrote, then the facts of this file."""
    parity = content["parity"]
    facts = [
        f"- Parameters: {content['n_parameters']:,}; precision {content['precision']}; {content['size_bytes']:,} bytes",
        f"- Context: {content['context_length']} tokens",
        f"- Renderer: `{content['renderer_digest']}`",
        f"- Parity with the source over {parity['n_compared']} positions: mean KL {parity['mean_kl']:.2e} nats",
        f"- Likeliest token the same as the source's: {parity['top1_agreement']:.1%}",
    ]
    intro = card.read_text(encoding="utf-8").rstrip() if card else f"# Pocket\n\n{DESCRIPTION}"
    return intro + "\n\n## The shipped file\n\n" + "\n".join(facts) + "\n"


def package(folder: Path, out: Path, *, precision: str, card: Path | None) -> dict:
    """Write the shipped files to `out`, all or nothing, and return the content of the version."""
    with tempfile.TemporaryDirectory() as scratch:
        draft = Path(scratch)
        # the folder's place on this disk says nothing to anyone else: the recipe is the reference
        source = FetchedModel(
            folder=folder,
            form="shipped",
            reference="recipes/pocket",
            license="Apache-2.0",
            description=DESCRIPTION,
        )
        made = package_model(
            source, draft, name="pocket", precision=precision, progress=lambda _share, text: print(text)
        )
        if made.content["size_bytes"] > MAX_BYTES:
            raise SystemExit(
                f"{made.content['size_bytes']} bytes are over the limit of {MAX_BYTES}; use q8_0."
            )
        (draft / "CARD.md").write_text(write_card(made.content, card), encoding="utf-8")
        files = (GGUF, TOKENIZER, RENDERER, "CARD.md")
        write_manifest(draft, name="pocket", content=made.content, files=files)
        out.mkdir(parents=True, exist_ok=True)
        for file in (*files, "manifest.json"):
            shutil.copyfile(draft / file, out / file)
    return made.content


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=SHIPPED)
    parser.add_argument("--precision", choices=("f32", "f16", "q8_0"), default="f16")
    parser.add_argument(
        "--card", type=Path, help="Markdown with what it is, how it was made and measured, and what it is not"
    )
    args = parser.parse_args()
    try:
        content = package(args.folder, args.out, precision=args.precision, card=args.card)
    except PenstockError as error:
        raise SystemExit(str(error)) from error
    print(f"{args.out}: {content['size_bytes']:,} bytes, mean KL {content['parity']['mean_kl']:.2e}")


if __name__ == "__main__":
    main()
