"""HTTP: what is healthy, what is not, why, and what to do; and whether the app is up at all."""

from datetime import datetime
from typing import Any, Final

import azure.functions as func

from handlers.deps import App, Deps
from handlers.problem_details import answer_for, json_answer
from model.cursor import Cursor
from model.errors import AppError
from model.key import KeyRecord
from model.plan import AccountEntry
from model.problem import Problem
from model.settings import SettingsProblems

NAME: Final = "status"
HEALTH_NAME: Final = "health"


async def read_status(app: App) -> dict[str, Any]:
    """Return everything the status answer shows."""
    entries = await app.accounts.list_all()
    cursors = await app.jobs.list_cursors()
    records = await app.keys.list_all()
    problems = await app.problems.list_all()
    return {
        "accounts": [account_view(entry) for entry in entries if not entry.deleted],
        "jobs": [job_view(cursor, app.settings.run_url_root) for cursor in cursors],
        "keys": [key_view(record) for record in records],
        "problems": [problem_view(item) for item in problems],
    }


def account_view(entry: AccountEntry) -> dict[str, Any]:
    return {
        "id": str(entry.id),
        "name": entry.name,
        "kind": entry.kind,
        "mode": entry.mode,
        "in_scope": entry.in_scope,
        "healthy": entry.healthy,
        "findings": [item.to_json() for item in entry.findings],
        "plan": [step.to_json() for step in entry.plan],
        "steps": [outcome.to_json() for outcome in entry.steps],
        "entity": entry.entity,
        "project": entry.project,
        "checked_at": _time(entry.checked_at),
    }


def job_view(cursor: Cursor, run_url_root: str) -> dict[str, Any]:
    run = cursor.run
    return {
        "id": cursor.job,
        "account": cursor.account,
        "status": cursor.status,
        "run_url": f"{run_url_root}/{run.entity}/{run.project}/runs/{run.run_id}" if run else "",
        "run": str(run) if run else "",
        "values": cursor.values,
        "last_step": cursor.last_step,
        "lag_s": cursor.lag_s,
        "state": cursor.relay_state,
        "error": cursor.error,
        "remedy": cursor.remedy,
        "notes": list(cursor.notes),
        "model": cursor.model,
    }


def key_view(record: KeyRecord) -> dict[str, Any]:
    return {
        "vault": record.vault_host,
        "secret": record.secret,
        "version": record.version,
        "entity": record.entity,
        "accepted_at": _time(record.accepted_at),
        "expires_at": _time(record.expires_at),
        "newest_version": record.newest_version,
        "newest_cause": record.newest_cause,
        "trigger": record.trigger,
    }


def problem_view(item: Problem) -> dict[str, Any]:
    return {
        "source": item.source,
        "subject": item.subject,
        "cause": item.cause,
        "remedy": item.remedy,
        "count": item.count,
        "last_at": item.last_at,
    }


def _time(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None


def health(deps: Deps) -> func.HttpResponse:
    """Say up or down, and which setting is wrong; nothing else, since anybody may ask."""
    try:
        deps.settings()
    except SettingsProblems as error:
        return json_answer(
            {
                "status": "down",
                "settings": [
                    {"setting": one.subject, "problem": one.message, "remedy": one.remedy}
                    for one in error.problems
                ],
            },
            503,
        )
    return json_answer({"status": "up"})


def blueprint(deps: Deps) -> func.Blueprint:
    bp = func.Blueprint()

    @bp.function_name(NAME)
    @bp.route(route="status", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
    async def status(req: func.HttpRequest) -> func.HttpResponse:
        try:
            return json_answer(await read_status(await deps.app()))
        except AppError as error:
            return answer_for(error)

    @bp.function_name(HEALTH_NAME)
    @bp.route(route="health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
    async def alive(req: func.HttpRequest) -> func.HttpResponse:
        return health(deps)

    return bp
