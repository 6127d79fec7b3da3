"""The app that answers from the handbook of the demo corpus (or any knowledge base of that name)."""

from penstock.apps.types import AppDeclaration

NAME = "handbook"
POCKET = "pocket"


def declare_handbook(*, model: str = POCKET, knowledge: str = NAME, name: str = NAME) -> AppDeclaration:
    """Return the declaration: Pocket gets the form it was trained on and may only quote, any other model gets an
    instruction."""
    if model == POCKET:
        # Tuned on 60 training questions and as many rephrasings of them (docs/lab-log.md).
        return AppDeclaration(
            name=name,
            knowledge=knowledge,
            model=model,
            prompt="marked",
            min_relative_score=0.85,
            quote_only=True,
            decline_bias=-1.5,
            max_tokens=96,
        )
    return AppDeclaration(
        name=name,
        knowledge=knowledge,
        model=model,
        prompt="instructed",
        max_sentences=24,
        max_prompt_words=700,
    )
