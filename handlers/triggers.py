"""Every function of the app and what triggers it; the names are a contract with infra/.

A trigger imports its handler with the first call, not with the app: every cold start pays for the
imports at the top, also for functions that never run (docs/performance.md, "Cold
start").
"""

from pathlib import Path
from pkgutil import resolve_name
from typing import Final

import azure.functions as func

from finetune_wandb.flows.app import Deps
from finetune_wandb.model.work import QUEUES, Source

STORAGE: Final = "AzureWebJobsStorage"
OPENAPI: Final = Path(__file__).parent / "pages" / "openapi.json"
_ROUTES: Final = (
    # function, route, method, answered by
    ("resync", "resync", "POST", "handlers.resync:answer"),
    ("resync_status", "resync/{id}", "GET", "handlers.resync:answer_status"),
    ("status", "status", "GET", "handlers.status:answer"),
    ("dashboard", "dashboard", "GET", "handlers.dashboard:answer"),
    ("audit", "audit", "GET", "handlers.audit:answer"),
)


def blueprint(deps: Deps) -> func.Blueprint:
    bp = func.Blueprint()
    _event_grid(bp, Source.ACCOUNT_EVENT, deps)
    _event_grid(bp, Source.VAULT_EVENT, deps)
    _timers(bp, deps)
    for queue, source in QUEUES.items():
        _queue(bp, queue, source, deps)
    for route in _ROUTES:
        _http(bp, *route, deps)
    _http_without_app(bp, deps)
    return bp


def _event_grid(bp: func.Blueprint, source: Source, deps: Deps) -> None:
    # The worker passes a CloudEvent for that schema, whatever the annotation says.
    @bp.function_name(source)
    @bp.event_grid_trigger(arg_name="event")
    async def take_event(event: func.EventGridEvent) -> None:
        from handlers import budgets, events

        app = await deps.app()
        async with budgets.within(budgets.EVENT_S, app, source, "event"):
            await events.handle(event, source, app)


def _timers(bp: func.Blueprint, deps: Deps) -> None:
    @bp.function_name(Source.RELAY_TIMER)
    @bp.timer_trigger(arg_name="timer", schedule="%RELAY_SCHEDULE%", use_monitor=False)
    async def relay_timer(timer: func.TimerRequest) -> None:
        from finetune_wandb.flows import timers
        from handlers import budgets

        app = await deps.app()
        async with budgets.within(budgets.TICK_S, app, Source.RELAY_TIMER, "tick"):
            await timers.tick(app)

    @bp.function_name(Source.DRIFT_TIMER)
    @bp.timer_trigger(arg_name="timer", schedule="%DRIFT_SCHEDULE%", use_monitor=True)
    async def drift_timer(timer: func.TimerRequest) -> None:
        from finetune_wandb.flows import timers
        from handlers import budgets

        app = await deps.app()
        async with budgets.within(budgets.DRIFT_S, app, Source.DRIFT_TIMER, "drift pass"):
            await timers.drift(app)


def _queue(bp: func.Blueprint, queue: str, source: Source, deps: Deps) -> None:
    @bp.function_name(source)
    @bp.queue_trigger(arg_name="message", queue_name=queue, connection=STORAGE)
    async def take_message(message: func.QueueMessage) -> None:
        from handlers import queues

        await queues.handle(message, queues.BY_NAME[queue], deps)


def _http(bp: func.Blueprint, name: str, route: str, method: str, answer: str, deps: Deps) -> None:
    # A route without methods accepts all, because the host's own refusal has no body.
    @bp.function_name(name)
    @bp.route(route=route, auth_level=func.AuthLevel.FUNCTION)
    async def take_request(req: func.HttpRequest) -> func.HttpResponse:
        """Return the answer, or the error as problem details."""
        from finetune_wandb.model.errors import AppError
        from handlers import budgets
        from handlers.problem_details import problem

        if refused := _wrong_method(req, method):
            return refused
        try:
            app = await deps.app()
            path = req.url.partition("?")[0].rpartition("/api/")[2]
            async with budgets.within(budgets.HTTP_S, app, "http", path[:200]):
                found: func.HttpResponse = await resolve_name(answer)(req, app)
                return found
        except AppError as error:
            return problem(error)


def _http_without_app(bp: func.Blueprint, deps: Deps) -> None:
    """Register the endpoints that also answer with wrong settings."""

    @bp.function_name("openapi")
    @bp.route(route="openapi.json", auth_level=func.AuthLevel.FUNCTION)
    async def openapi(req: func.HttpRequest) -> func.HttpResponse:
        from handlers.problem_details import json_answer

        return _wrong_method(req, "GET") or json_answer(OPENAPI.read_bytes())

    @bp.function_name("health")
    @bp.route(route="health", auth_level=func.AuthLevel.ANONYMOUS)
    async def health(req: func.HttpRequest) -> func.HttpResponse:
        """Return which settings are wrong, and nothing else: this endpoint needs no key."""
        from finetune_wandb.model.settings import SettingsProblems
        from handlers.problem_details import json_answer

        if refused := _wrong_method(req, "GET"):
            return refused
        try:
            deps.settings()
        except SettingsProblems as error:
            wrong = [
                {"setting": one.subject, "problem": one.message, "remedy": one.remedy}
                for one in error.problems
            ]
            return json_answer({"status": "down", "settings": wrong}, 503)
        return json_answer({"status": "up"})


def _wrong_method(request: func.HttpRequest, allowed: str) -> func.HttpResponse | None:
    if request.method == allowed:
        return None
    from handlers.problem_details import RequestError, problem

    error = RequestError(405, f"must be {allowed}", field="method")
    return problem(error, {"Allow": allowed})
