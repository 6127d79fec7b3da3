"""Writes the rows of the walk through tuning: where things lie in an office, before and after a move.

    python examples/tuning/keys/rows.py FOLDER

`facts` teaches a model from nothing; `moved` says where half of the things lie since the move; `preferences` holds short replies
against wordy ones; `asked` asks in words that no training row has; `wrong` holds another model's control tokens, which is refused.
"""

import json
import sys
from pathlib import Path

THINGS = (
    "stapler", "ladder", "kettle", "printer", "blanket", "toolbox", "umbrella", "lamp", "radio", "broom", "camera", "heater",
    "parcel", "whistle", "bucket", "helmet", "mirror", "hammer", "candle", "basket", "carpet", "drill", "easel", "flask",
)  # fmt: skip
PLACES = ("cellar", "kitchen", "attic", "garage", "lobby", "garden", "library", "workshop")
WORDINGS = (
    "Where is the {}?", "Where do I find the {}?", "In which room is the {}?", "Where may the {} be?",
    "Tell me the place of the {}.", "Do you know where the {} is?", "Say where the {} was put.", "I need the {}.",
)  # fmt: skip
SHORT = 4
"""Each fourth wording gets a short reply at first."""
HELD_OUT = ("Where can the {} be?", "Tell me where the {} is.")


def place_of(number: int, *, is_moved: bool) -> str:
    """Where a thing lies; every second one lies elsewhere since the move."""
    step = 3 if is_moved and number % 2 else 0
    return PLACES[(number * 5 + step) % len(PLACES)]


def reply(number: int, *, is_moved: bool, is_wordy: bool = False) -> str:
    """What a good answer says."""
    place = place_of(number, is_moved=is_moved)
    return f"I believe that it is in the {place}." if is_wordy else f"In the {place}."


def chat(question: str, answer: str) -> dict[str, object]:
    """A row of format `chat`."""
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages}


def main(folder: Path) -> None:
    """Write the files."""
    folder.mkdir(parents=True, exist_ok=True)
    asked = [(number, words.format(thing)) for number, thing in enumerate(THINGS) for words in WORDINGS]
    unseen = [(number, words.format(thing)) for number, thing in enumerate(THINGS) for words in HELD_OUT]
    files = {
        "facts": [
            chat(text, reply(n, is_moved=False, is_wordy=row % SHORT < SHORT - 1))
            for row, (n, text) in enumerate(asked)
        ],
        "moved": [
            chat(text, reply(n, is_moved=True, is_wordy=row % SHORT < SHORT - 1))
            for row, (n, text) in enumerate(asked)
        ],
        "preferences": [
            {
                "prompt": text,
                "chosen": reply(n, is_moved=True),
                "rejected": reply(n, is_moved=True, is_wordy=True),
            }
            for n, text in asked
        ],
        "asked": [
            {"id": f"q{row}", "input": text, "expected": reply(n, is_moved=True), "group": THINGS[n]}
            for row, (n, text) in enumerate(unseen)
        ],
        "wrong": [chat(f"<|im_start|>user\n{text}<|im_end|>", reply(n, is_moved=True)) for n, text in asked],
    }
    for name, rows in files.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
