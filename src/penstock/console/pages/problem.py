"""The page that says what went wrong, why, and what to do."""

from dataclasses import dataclass
from typing import ClassVar

from starlette.requests import Request
from starlette.responses import Response

from penstock.base.errors import PenstockError
from penstock.console.rendering import Page, Renderer


@dataclass(frozen=True, kw_only=True)
class ProblemPage(Page):
    """One error, in words."""

    template: ClassVar[str] = "problem.html"
    status: int
    code: str
    message: str
    hint: str | None


def show(renderer: Renderer, request: Request, error: PenstockError) -> Response:
    """Return the page for `error` under the error's status."""
    title = "Not found" if error.status == 404 else "This did not work"
    page = ProblemPage(
        frame=renderer.frame(request, title, ""),
        status=error.status,
        code=error.code,
        message=error.message,
        hint=error.hint,
    )
    return renderer.show(page, status=error.status)
