"""Every function of the app and what triggers it; the names are a contract with infra/.

A trigger imports its handler with the first call, not with the app: the imports at the top are
paid at every cold start, also by functions that never need them (docs/performance.md, "Cold
start").
"""

from collections.abc import Awaitable, Callable

import azure.functions as func

from finetune_wandb.flows.app import App, Deps
from finetune_wandb.model import queues
from finetune_wandb.model.work import Source

STORAGE = "AzureWebJobsStorage"


def blueprint(deps: Deps) -> func.Blueprint:
    bp = func.Blueprint()
    _event_grid(bp, deps)
    _timers(bp, deps)
    _queues(bp, deps)
    _http(bp, deps)
    return bp


def _event_grid(bp: func.Blueprint, deps: Deps) -> None:
    # The worker passes a CloudEvent for that schema, whatever the annotation says.
    @bp.function_name(Source.ACCOUNT_EVENT)
    @bp.event_grid_trigger(arg_name="event")
    async def account_event(event: func.EventGridEvent) -> None:
        from handlers import account_event, budgets

        app = await deps.app()
        async with budgets.within(budgets.EVENT_S, app, Source.ACCOUNT_EVENT, "event"):
            await account_event.handle(event, app)

    @bp.function_name(Source.VAULT_EVENT)
    @bp.event_grid_trigger(arg_name="event")
    async def vault_event(event: func.EventGridEvent) -> None:
        from handlers import budgets, vault_event

        app = await deps.app()
        async with budgets.within(budgets.EVENT_S, app, Source.VAULT_EVENT, "event"):
            await vault_event.handle(event, app)


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


def _queues(bp: func.Blueprint, deps: Deps) -> None:
    @bp.function_name(Source.RECONCILE_ACCOUNT)
    @bp.queue_trigger(arg_name="message", queue_name=queues.RECONCILE, connection=STORAGE)
    async def reconcile_account(message: func.QueueMessage) -> None:
        from handlers.queues import RECONCILE, handle

        await handle(message, RECONCILE, deps)

    @bp.function_name(Source.RELAY_JOBS)
    @bp.queue_trigger(arg_name="message", queue_name=queues.RELAY, connection=STORAGE)
    async def relay_jobs(message: func.QueueMessage) -> None:
        from handlers.queues import RELAY, handle

        await handle(message, RELAY, deps)

    @bp.function_name(Source.BACKFILL_JOBS)
    @bp.queue_trigger(arg_name="message", queue_name=queues.BACKFILL, connection=STORAGE)
    async def backfill_jobs(message: func.QueueMessage) -> None:
        from handlers.queues import BACKFILL, handle

        await handle(message, BACKFILL, deps)

    @bp.function_name(Source.JOB_ARTIFACTS)
    @bp.queue_trigger(arg_name="message", queue_name=queues.ARTIFACTS, connection=STORAGE)
    async def job_artifacts(message: func.QueueMessage) -> None:
        from handlers.queues import ARTIFACTS, handle

        await handle(message, ARTIFACTS, deps)


def _http(bp: func.Blueprint, deps: Deps) -> None:
    # A route without methods takes them all: the host's own refusal has no body.
    key, anonymous = func.AuthLevel.FUNCTION, func.AuthLevel.ANONYMOUS

    @bp.function_name("resync")
    @bp.route(route="resync", auth_level=key)
    async def resync(req: func.HttpRequest) -> func.HttpResponse:
        from handlers import resync

        return await _answered(resync.answer, "POST", req, deps)

    @bp.function_name("resync_status")
    @bp.route(route="resync/{id}", auth_level=key)
    async def resync_status(req: func.HttpRequest) -> func.HttpResponse:
        from handlers import resync

        return await _answered(resync.answer_status, "GET", req, deps)

    @bp.function_name("status")
    @bp.route(route="status", auth_level=key)
    async def status(req: func.HttpRequest) -> func.HttpResponse:
        from handlers import status

        return await _answered(status.answer, "GET", req, deps)

    @bp.function_name("dashboard")
    @bp.route(route="dashboard", auth_level=key)
    async def dashboard(req: func.HttpRequest) -> func.HttpResponse:
        from handlers import dashboard

        return await _answered(dashboard.answer, "GET", req, deps)

    @bp.function_name("openapi")
    @bp.route(route="openapi.json", auth_level=key)
    async def openapi(req: func.HttpRequest) -> func.HttpResponse:
        from handlers import openapi

        return _wrong_method(req, "GET") or openapi.answer()

    @bp.function_name("health")
    @bp.route(route="health", auth_level=anonymous)
    async def health(req: func.HttpRequest) -> func.HttpResponse:
        from handlers import health

        return _wrong_method(req, "GET") or health.answer(deps)


async def _answered(
    answer: Callable[[func.HttpRequest, App], Awaitable[func.HttpResponse]],
    method: str,
    request: func.HttpRequest,
    deps: Deps,
) -> func.HttpResponse:
    """Return the answer, or the problem details of the error that it ended with."""
    from handlers import budgets
    from handlers.problem_details import ANSWERED, answer_for

    if refused := _wrong_method(request, method):
        return refused
    try:
        app = await deps.app()
        path = request.url.partition("?")[0].rpartition("/api/")[2]
        async with budgets.within(budgets.HTTP_S, app, "http", path[:200]):
            return await answer(request, app)
    except ANSWERED as error:
        return answer_for(error)


def _wrong_method(request: func.HttpRequest, allowed: str) -> func.HttpResponse | None:
    if request.method == allowed:
        return None
    from handlers.problem_details import problem

    return problem(405, f"must be {allowed}", field="method", allowed=allowed)
