"""Every function of the app and what triggers it; the names are a contract with infra/.

A trigger imports its handler with the first call, not with the app: what stands above is paid
at every cold start, by functions that never need it too (docs/performance.md, "Cold start").
"""

import azure.functions as func

from finetune_wandb.flows.app import Deps

STORAGE = "AzureWebJobsStorage"


def blueprint(deps: Deps) -> func.Blueprint:
    bp = func.Blueprint()
    _event_grid(bp, deps)
    _timers(bp, deps)
    _queues(bp, deps)
    _http(bp, deps)
    return bp


def _event_grid(bp: func.Blueprint, deps: Deps) -> None:
    # The worker gives a CloudEvent for that schema, whatever the annotation says.
    @bp.function_name("account_event")
    @bp.event_grid_trigger(arg_name="event")
    async def account_event(event: func.EventGridEvent) -> None:
        from handlers import account_event

        await account_event.run(event, deps)

    @bp.function_name("vault_event")
    @bp.event_grid_trigger(arg_name="event")
    async def vault_event(event: func.EventGridEvent) -> None:
        from handlers import vault_event

        await vault_event.run(event, deps)


def _timers(bp: func.Blueprint, deps: Deps) -> None:
    @bp.function_name("relay_timer")
    @bp.timer_trigger(arg_name="timer", schedule="%RELAY_SCHEDULE%", use_monitor=False)
    async def relay_timer(timer: func.TimerRequest) -> None:
        from finetune_wandb.flows import tick as relay_timer

        await relay_timer.run(deps)

    @bp.function_name("drift_timer")
    @bp.timer_trigger(arg_name="timer", schedule="%DRIFT_SCHEDULE%", use_monitor=True)
    async def drift_timer(timer: func.TimerRequest) -> None:
        from finetune_wandb.flows import drift as drift_timer

        await drift_timer.run(deps)


def _queues(bp: func.Blueprint, deps: Deps) -> None:
    @bp.function_name("reconcile_account")
    @bp.queue_trigger(arg_name="message", queue_name="reconcile-accounts", connection=STORAGE)
    async def reconcile_account(message: func.QueueMessage) -> None:
        from finetune_wandb.flows import reconcile as reconcile_account

        await reconcile_account.receive(message, deps)

    @bp.function_name("relay_jobs")
    @bp.queue_trigger(arg_name="message", queue_name="relay-jobs", connection=STORAGE)
    async def relay_jobs(message: func.QueueMessage) -> None:
        from finetune_wandb.flows import jobs as relay_jobs

        await relay_jobs.receive(message, deps)

    @bp.function_name("job_artifacts")
    @bp.queue_trigger(arg_name="message", queue_name="job-artifacts", connection=STORAGE)
    async def job_artifacts(message: func.QueueMessage) -> None:
        from finetune_wandb.flows import artifacts as job_artifacts

        await job_artifacts.receive(message, deps)


def _http(bp: func.Blueprint, deps: Deps) -> None:
    # A route without methods takes them all: the host's own refusal would say nothing.
    key, anybody = func.AuthLevel.FUNCTION, func.AuthLevel.ANONYMOUS

    @bp.function_name("resync")
    @bp.route(route="resync", auth_level=key)
    async def resync(req: func.HttpRequest) -> func.HttpResponse:
        if refused := _wrong_method(req, "POST"):
            return refused
        from handlers import resync

        return await resync.answer(req, deps)

    @bp.function_name("resync_status")
    @bp.route(route="resync/{id}", auth_level=key)
    async def resync_status(req: func.HttpRequest) -> func.HttpResponse:
        if refused := _wrong_method(req, "GET"):
            return refused
        from handlers import resync

        return await resync.answer_status(req, deps)

    @bp.function_name("status")
    @bp.route(route="status", auth_level=key)
    async def status(req: func.HttpRequest) -> func.HttpResponse:
        if refused := _wrong_method(req, "GET"):
            return refused
        from handlers import status

        return await status.answer(req, deps)

    @bp.function_name("dashboard")
    @bp.route(route="dashboard", auth_level=key)
    async def dashboard(req: func.HttpRequest) -> func.HttpResponse:
        if refused := _wrong_method(req, "GET"):
            return refused
        from handlers import dashboard

        return await dashboard.answer(req, deps)

    @bp.function_name("openapi")
    @bp.route(route="openapi.json", auth_level=key)
    async def openapi(req: func.HttpRequest) -> func.HttpResponse:
        if refused := _wrong_method(req, "GET"):
            return refused
        from handlers import openapi

        return openapi.answer()

    @bp.function_name("health")
    @bp.route(route="health", auth_level=anybody)
    async def health(req: func.HttpRequest) -> func.HttpResponse:
        if refused := _wrong_method(req, "GET"):
            return refused
        from handlers import health

        return health.health(deps)


def _wrong_method(request: func.HttpRequest, allowed: str) -> func.HttpResponse | None:
    if request.method == allowed:
        return None
    from handlers.problem_details import problem

    return problem(405, f"must be {allowed}", field="method", allowed=allowed)
