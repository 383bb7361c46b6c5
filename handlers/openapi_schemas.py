"""The JSON shapes of the HTTP interface, as JSON Schema."""

from typing import Any, Final

from finetune_wandb.model.resync import MODES, PARTS, SCOPES

_TEXT: Final = {"type": "string"}
_MAYBE: Final = {"type": ["string", "null"]}
_COUNT: Final = {"type": "integer", "minimum": 0}
_TIME: Final = {"type": ["string", "null"], "description": "ISO 8601, UTC."}
_LIST: Final = {"type": "array", "items": {"type": "object"}}


def _object(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
    }


def _list(name: str) -> dict[str, Any]:
    return {"type": "array", "items": {"$ref": f"#/components/schemas/{name}"}}


_FINDING: Final = _object(
    {
        "check": _TEXT,
        "severity": {"enum": ["ok", "warning", "blocked", "manual"]},
        "cause": _TEXT,
        "evidence": {"type": "object", "additionalProperties": _TEXT},
        "remedy": _TEXT,
    }
)
_ACCOUNT: Final = _object(
    {
        "id": _TEXT,
        "name": _TEXT,
        "kind": _TEXT,
        "mode": {"enum": ["observe", "full"]},
        "healthy": {"type": "boolean"},
        "findings": _list("Finding"),
        "checked_at": _TIME,
    },
    in_scope={"type": "boolean"},
    plan=_LIST,
    steps=_LIST,
    entity=_TEXT,
    project=_TEXT,
)
_JOB: Final = _object(
    {
        "id": _TEXT,
        "account": _TEXT,
        "status": _TEXT,
        "run_url": _TEXT,
        "values": _COUNT,
        "last_step": {"type": ["integer", "null"]},
        "lag_s": {"type": ["number", "null"]},
        "state": {"enum": ["new", "live", "ending", "complete", "parked", "skipped"]},
        "error": _TEXT,
    },
    run=_TEXT,
    remedy=_TEXT,
    notes={"type": "array", "items": _TEXT},
    model=_TEXT,
    last_value_at=_TIME,
    created_at=_TIME,
    finished_at=_TIME,
)
_KEY: Final = _object(
    {
        "vault": _TEXT,
        "secret": _TEXT,
        "version": _TEXT,
        "entity": _TEXT,
        "accepted_at": _TIME,
        "expires_at": _TIME,
    },
    newest_version=_TEXT,
    newest_cause=_TEXT,
    trigger=_TEXT,
    refused_at=_TIME,
    checked_at=_TIME,
    changes={
        "type": "array",
        "items": _object(
            {
                "at": _TIME,
                "version": _TEXT,
                "entity": _TEXT,
                "accepted": {"type": "boolean"},
                "cause": _TEXT,
                "trigger": _TEXT,
            }
        ),
    },
    rotation={
        "oneOf": [
            {"type": "null"},
            _object(
                {
                    "state": {"enum": ["idle", "intent", "minted", "stored", "switched"]},
                    "began_at": _TIME,
                    "switched_at": _TIME,
                    "version": _TEXT,
                    "old_version": _TEXT,
                    "findings": _list("Finding"),
                }
            ),
        ]
    },
)
_QUEUE: Final = _object({"name": _TEXT, "waiting": _COUNT, "poison": _COUNT})
_TOTALS: Final = _object(
    {
        "accounts": _COUNT,
        "unhealthy": _COUNT,
        "jobs": _COUNT,
        "jobs_by_state": {"type": "object", "additionalProperties": _COUNT},
        "jobs_with_error": _COUNT,
        "poison": _COUNT,
    }
)
_PAGING: Final = _object(
    {"page": _COUNT, "limit": _COUNT, "pages": _COUNT, "accounts": _COUNT, "jobs": _COUNT}
)
_ITEM: Final = _object(
    {
        "name": _TEXT,
        "account": _TEXT,
        "state": {"enum": ["pending", "done", "failed"]},
        "total": _COUNT,
        "done": _COUNT,
        "failed": _COUNT,
        "results": _LIST,
    }
)
_RESYNC: Final = _object(
    {
        "id": _TEXT,
        "state": {"enum": ["running", "done"]},
        "total": _COUNT,
        "done": _COUNT,
        "failed": _COUNT,
        "items": _list("ResyncItem"),
    },
    rate_per_s={"type": "number"},
    elapsed_s={"type": "number"},
    left_s={"type": ["integer", "null"]},
    request={"type": "object"},
    requested_by=_TEXT,
    created_at=_TIME,
)
_REQUEST: Final = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "scope": {"enum": list(SCOPES), "default": "all"},
        "account": {**_MAYBE, "description": "ARM id; with scope account or job."},
        "job": {**_MAYBE, "description": "Id; with scope job."},
        "parts": {"type": ["array", "null"], "items": {"enum": list(PARTS)}, "minItems": 1},
        "mode": {"enum": list(MODES), "default": "apply"},
        "since": {**_MAYBE, "description": "Date or time: only jobs created since then."},
        "force": {
            "type": "boolean",
            "default": False,
            "description": "Complete jobs too: read them again and add what is missing.",
        },
    },
    "examples": [{"scope": "all"}, {"scope": "all", "mode": "check"}],
}
SCHEMAS: Final[dict[str, Any]] = {
    "Finding": _FINDING,
    "Account": _ACCOUNT,
    "Job": _JOB,
    "Key": _KEY,
    "Status": _object(
        {
            "accounts": _list("Account"),
            "jobs": _list("Job"),
            "keys": _list("Key"),
            "queues": {"type": "array", "items": _QUEUE},
            "totals": _TOTALS,
            "paging": _PAGING,
        },
        problems=_LIST,
    ),
    "ResyncRequest": _REQUEST,
    "ResyncItem": _ITEM,
    "Resync": _RESYNC,
    "Health": _object({"status": {"enum": ["up", "down"]}}, settings=_LIST),
    "Problem": _object(
        {"type": _TEXT, "title": _TEXT, "status": {"type": "integer"}, "detail": _TEXT},
        field=_TEXT,
        reason=_TEXT,
        remedy=_TEXT,
    ),
}
