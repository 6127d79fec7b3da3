"""A small base of invented house rules, cut finely, with every service over it; built once for all tests that only read."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Engine

from penstock.knowledge.quality.types import Label, LabelledQuestion, MadeQuestions, QuestionSet
from penstock.knowledge.service import KnowledgeService
from penstock.main.retrieval_scoring import EvaluationScoring
from penstock.spec.knowledge import ChunkRecipe, EmbedRecipe, Recipe
from penstock.store.control.engine import open_control
from tests.knowledge.embedders import HashingEmbedder, MemoryBlobs
from tests.knowledge.inline_pool import InlinePool

ARTICLES = {
    "boats.md": (
        "# Boats\n\n## Hiring one\n\nA rowing boat is hired by the hour at the jetty. The deposit for a rowing boat is forty "
        "crowns. Bring the boat back before the harbour bell rings.\n\n## Storms\n\nWhen the storm flag flies, all boats "
        "stay ashore. The harbour master lowers the flag when the wind drops below twenty knots."
    ),
    "bees.md": (
        "# Bees\n\n## Swarms\n\nA swarm that hangs in a tree is harmless for an hour or two. Call the keeper of bees before "
        "you touch it.\n\n## Honey\n\nHoney is spun in July. Each household on the island gets two jars of honey."
    ),
    "library.md": (
        "# Library\n\n## Loans\n\nBooks are lent for three weeks. A loan may be renewed twice unless somebody waits for the "
        "book.\n\n## Fines\n\nThe fine for a late book is one crown a week. Children pay no fine."
    ),
    "ferry.md": (
        "# Ferry\n\n## Timetable\n\nThe ferry leaves at seven, noon and six. On Sundays the morning ferry does not run.\n\n"
        "## Tickets\n\nTickets are sold aboard. Residents travel free with their card."
    ),
    "bread.md": (
        "# Bread\n\n## Oven\n\nThe village oven is lit on Fridays. Bring your dough before eight in the morning.\n\n"
        "## Flour\n\nFlour from the mill costs six crowns a sack."
    ),
}
QUESTIONS = [
    ("deposit", "What is the deposit for a rowing boat?", "boats.md", "The deposit for a rowing boat is forty crowns."),
    ("storm", "When do boats stay ashore?", "boats.md", "When the storm flag flies, all boats stay ashore."),
    ("swarm", "Whom do I call about a swarm?", "bees.md", "Call the keeper of bees before you touch it."),
    ("jars", "How many jars of honey does a household get?", "bees.md", "Each household on the island gets two jars of honey."),
    ("renew", "How often may a loan be renewed?", "library.md", "A loan may be renewed twice unless somebody waits for the book."),
    ("fine", "What is the fine for a late book?", "library.md", "The fine for a late book is one crown a week."),
    ("sunday", "Does the morning ferry run on Sundays?", "ferry.md", "On Sundays the morning ferry does not run."),
    ("residents", "Who travels free?", "ferry.md", "Residents travel free with their card."),
    ("oven", "When is the village oven lit?", "bread.md", "The village oven is lit on Fridays."),
    ("flour", "What does a sack of flour cost?", "bread.md", "Flour from the mill costs six crowns a sack."),
]  # fmt: skip


class ListedQuestions:
    """Sets of questions in memory."""

    def __init__(self, **sets: list[LabelledQuestion]) -> None:
        self.sets = sets

    def list_sets(self) -> list[QuestionSet]:
        return [
            QuestionSet(ref=f"dataset:{name}@1", name=name, n_questions=len(rows))
            for name, rows in self.sets.items()
        ]

    def pin(self, ref: str) -> str:
        return f"dataset:{ref.removeprefix('dataset:').partition('@')[0]}@1"

    def read(self, ref: str, *, where: str | None = None) -> Iterator[LabelledQuestion]:
        del where
        yield from self.sets[ref.removeprefix("dataset:").partition("@")[0]]

    def add(self, name: str, questions: list[LabelledQuestion], *, actor: str, note: str) -> MadeQuestions:
        del actor, note
        self.sets.setdefault(name, []).extend(questions)
        return MadeQuestions(ref=f"dataset:{name}@1", n_added=len(questions))


def island_questions() -> list[LabelledQuestion]:
    """The questions with the sentence that answers each, and other facts about them."""
    return [
        LabelledQuestion(
            id=name,
            question=text,
            labels=[Label(document=document, quote=answer)],
            answer=answer,
            tags=["boats" if document == "boats.md" else "other"],
        )
        for name, text, document, answer in QUESTIONS
    ]


def timer_of(step_ns: int = 1_000_000) -> Iterator[int]:
    """Nanoseconds that pass evenly: each reading is one step later."""
    now = 0
    while True:
        now += step_ns
        yield now


@dataclass
class Island:
    """A base with two tracks: `fine` is cut at 12 words and live, `coarse` at 60."""

    engine: Engine
    knowledge: KnowledgeService
    embedder: HashingEmbedder
    questions: ListedQuestions
    scoring: EvaluationScoring
    fine: str
    coarse: str


def build_island(root: Path) -> Island:
    """Return the island over a new home at `root`."""
    engine = open_control(f"sqlite:///{root / 'control.sqlite'}")
    folder = root / "articles"
    folder.mkdir()
    for name, text in ARTICLES.items():
        (folder / name).write_text(text)
    embedder = HashingEmbedder(dims=256)
    knowledge = KnowledgeService(engine, MemoryBlobs(), root / "indexes", embedder, make_pool=InlinePool)
    plain = EmbedRecipe(context="none")
    fine = knowledge.ingest(
        "island", folder, recipe=Recipe(chunk=ChunkRecipe(size=12), embed=plain)
    ).generation
    coarse = knowledge.build_candidate("island", "coarse", Recipe(chunk=ChunkRecipe(size=60), embed=plain))
    return Island(
        engine=engine,
        knowledge=knowledge,
        embedder=embedder,
        questions=ListedQuestions(island=island_questions()),
        scoring=EvaluationScoring(),
        fine=fine,
        coarse=coarse.generation,
    )


@pytest.fixture(scope="session")
def island(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Island]:
    """The island, shared: tests add measurements and feedback, and change nothing else."""
    made = build_island(tmp_path_factory.mktemp("island"))
    yield made
    made.engine.dispose()
