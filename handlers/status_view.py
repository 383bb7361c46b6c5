"""Accounts, jobs, keys and problems as the status answer and the dashboard show them."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote

import msgspec

from finetune_wandb.keys.rotation import rotation_findings
from finetune_wandb.model.accounts.key import KeyChange, KeyMint, KeyRecord
from finetune_wandb.model.accounts.report import AccountReport
from finetune_wandb.model.queues import QueueCount
from finetune_wandb.model.relay.cursor import Cursor
from finetune_wandb.model.work import Problem

_PLAIN: Final = re.compile(r"[A-Za-z0-9_.~/-]*")
_MANY: Final = 8192
"""Most jobs have not changed since the last call, so their texts are kept."""
_ANY_REMEDY: Final = (
    "The app retries it; if it persists, re-sync, then see docs/troubleshooting.md."
)
_END_OF_TIME: Final = 253_402_300_800
"""The year 10000, which has no date."""


def account_view(entry: AccountReport) -> dict[str, Any]:
    return {
        "id": str(entry.id),
        "name": entry.name,
        "kind": entry.kind,
        "mode": entry.mode,
        "in_scope": entry.in_scope,
        "healthy": entry.healthy,
        "findings": msgspec.to_builtins(entry.findings),
        "plan": msgspec.to_builtins(entry.plan),
        "steps": msgspec.to_builtins(entry.steps),
        "entity": entry.entity,
        "project": entry.project,
        "checked_at": _time(entry.checked_at),
    }


def _run_url(cursor: Cursor, root: str) -> str:
    run = cursor.run
    if not run:
        return ""
    return f"{root}/{_quoted(run.entity)}/{_quoted(run.project)}/runs/{_quoted(run.run_id)}"


@lru_cache(maxsize=_MANY)
def _quoted(part: str) -> str:
    # Job ids and most names need no quoting, and the test for that is much cheaper.
    return part if _PLAIN.fullmatch(part) else quote(part)


def remedy_for(cause: str, remedy: str) -> str:
    """Return what to do about a cause: its own remedy, else the general one."""
    return remedy or (_ANY_REMEDY if cause else "")


def job_view(cursor: Cursor, run_url_root: str) -> dict[str, Any]:
    return {
        "id": cursor.job,
        "account": cursor.account,
        "status": cursor.status,
        "run_url": _run_url(cursor, run_url_root),
        "run": str(cursor.run) if cursor.run else "",
        "values": cursor.values,
        "last_step": cursor.last_step,
        "lag_s": cursor.lag_s,
        "state": cursor.relay_state,
        "error": cursor.error,
        "remedy": remedy_for(cursor.error, cursor.remedy),
        "notes": list(cursor.notes),
        "model": cursor.model,
        "last_value_at": _unix(cursor.last_value_at),
        "created_at": _unix(cursor.created_at),
        "finished_at": _unix(cursor.finished_at),
    }


def key_view(
    record: KeyRecord, changes: Sequence[KeyChange] = (), mint: KeyMint | None = None
) -> dict[str, Any]:
    """Return a key with its latest changes, newest first, and the latest rotation."""
    return {
        "vault": record.secret.vault.host,
        "secret": record.secret.name,
        "version": record.version,
        "entity": record.entity,
        "accepted_at": _time(record.accepted_at),
        "expires_at": _time(record.expires_at),
        "newest_version": record.newest_version,
        "newest_cause": record.newest_cause,
        "trigger": record.trigger,
        "refused_at": _time(record.refused_at),
        "checked_at": _time(record.checked_at),
        "changes": [
            {
                "at": _time(change.at),
                "version": change.version,
                "entity": change.entity,
                "accepted": change.accepted,
                "cause": change.cause,
                "trigger": change.trigger,
            }
            for change in changes
        ],
        "rotation": mint
        and {
            "state": mint.state,
            "began_at": _time(mint.began_at),
            "switched_at": _time(mint.switched_at),
            "version": mint.version,
            "old_version": mint.old_version,
            "findings": msgspec.to_builtins(rotation_findings(mint)),
        },
    }


def problem_view(item: Problem) -> dict[str, Any]:
    return {
        "source": item.source,
        "subject": item.subject,
        "cause": item.cause,
        "remedy": remedy_for(item.cause, item.remedy),
        "count": item.count,
        "last_at": item.last_at,
        **({"message": item.message} if item.message else {}),
    }


def queue_view(count: QueueCount) -> dict[str, Any]:
    return {"name": count.name, "waiting": count.waiting, "poison": count.poison}


def _time(moment: datetime | None) -> str | None:
    """Return a time as ISO 8601 in UTC."""
    return moment.isoformat().replace("+00:00", "Z") if moment else None


@lru_cache(maxsize=4 * _MANY)
def _unix(moment: float | None) -> str | None:
    """Return unix seconds as ISO 8601 in UTC; None where they are no date."""
    if moment is None or not 0 <= moment < _END_OF_TIME:
        return None
    return _time(datetime.fromtimestamp(int(moment), UTC))
