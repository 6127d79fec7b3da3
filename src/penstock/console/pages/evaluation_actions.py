"""What can be done to an evaluation: stop, resume, score again, delete."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.access.declarations import Caller, actor_of, needs
from penstock.access.permissions import Permission
from penstock.base.errors import PenstockError
from penstock.console.evaluation_forms import read_budget, read_scorers
from penstock.console.links import link
from penstock.console.pages.evaluations import ACTIVE
from penstock.console.rendering import Renderer
from penstock.console.services import ConsoleServices


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return the actions below `/evaluations/ID`."""
    _ = renderer  # every action leads to a page
    router = APIRouter(include_in_schema=False)
    evaluations = services.evaluations

    @router.post(f"{ACTIVE}/{{evaluation_id}}/stop")
    @needs(Permission.EVALS_WRITE)
    def stop(request: Request, evaluation_id: str) -> Response:
        caller: Caller = request.state.caller
        evaluations.stop(evaluation_id, reason=f"stopped by {actor_of(caller)}")
        return _back(evaluation_id, "It stops when the calls under way have ended; what it has is valid.")

    @router.post(f"{ACTIVE}/{{evaluation_id}}/resume")
    @needs(Permission.EVALS_WRITE, Permission.MODELS_CALL)
    def resume(request: Request, evaluation_id: str) -> Response:
        caller: Caller = request.state.caller
        try:
            evaluations.resume(evaluation_id, budget=read_budget(caller.form))
        except PenstockError as error:
            return _back(evaluation_id, _say(error))
        return _back(evaluation_id, "It goes on with what has no final answer yet.")

    @router.post(f"{ACTIVE}/{{evaluation_id}}/rescore")
    @needs(Permission.EVALS_WRITE)
    def rescore(request: Request, evaluation_id: str) -> Response:
        caller: Caller = request.state.caller
        is_new = caller.form.get("mode") == "new"
        try:
            scorers = read_scorers(caller.form.get("scorers", ""))
            record = evaluations.rescore(evaluation_id, scorers, actor=actor_of(caller), is_new=is_new)
        except PenstockError as error:
            return _back(evaluation_id, _say(error))
        return _back(record.id, "The stored answers are being scored; the target is not asked.")

    @router.post(f"{ACTIVE}/{{evaluation_id}}/delete")
    @needs(Permission.EVALS_WRITE)
    def delete(evaluation_id: str) -> Response:
        try:
            evaluations.delete(evaluation_id)
        except PenstockError as error:
            return _back(evaluation_id, _say(error))
        return RedirectResponse(
            link(ACTIVE, {"notice": "Deleted, with its answers and scores."}), status_code=303
        )

    return router


def _say(error: PenstockError) -> str:
    return f"{error.message} {error.hint or ''}".strip()


def _back(evaluation_id: str, notice: str) -> Response:
    return RedirectResponse(link(f"{ACTIVE}/{evaluation_id}", {"notice": notice}), status_code=303)
