"""Which re-sync a request's JSON body asks for; every refusal names its field."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, Final

from finetune_wandb.model import ids
from finetune_wandb.model.errors import NoticeError
from finetune_wandb.model.resync import MODES, PARTS, SCOPES, ResyncRequest
from handlers.problem_details import Refusal

_FIELDS: Final = frozenset({"scope", "account", "job", "parts", "mode", "since", "force"})
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z_-]{0,23}")
"""A plausible field name: without the digits and the length that every key has."""
_JOB: Final = re.compile(r"^[^\s/\\?#%\x00-\x1f\x7f]{1,200}$")


def request_from_body(body: object, *, subscriptions: tuple[str, ...]) -> ResyncRequest:
    """Return the request in a JSON body. Raises Refusal naming the field that is wrong."""
    if not isinstance(body, Mapping):
        raise Refusal(400, "the body must be a JSON object", field="body")
    if unknown := sorted(set(map(str, body)) - _FIELDS):
        # A secret pasted in the wrong place must not come back in an answer.
        named = next(filter(_NAME.fullmatch, unknown), "body")
        raise Refusal(
            400, "no such field", field=named, remedy=f"known: {', '.join(sorted(_FIELDS))}"
        )
    scope = _choice(body, "scope", SCOPES, "all")
    account, job = _text(body, "account"), _text(body, "job")
    if scope in ("account", "job"):
        try:
            account_id = ids.parse_account_id(account)
        except NoticeError as error:
            raise Refusal(400, error.message, field=error.subject, remedy=error.remedy) from error
        if account_id.subscription.lower() not in subscriptions:
            raise Refusal(
                400,
                "the account's subscription is not watched",
                field="account",
                remedy="add its subscription to AZURE_SUBSCRIPTION_IDS",
            )
    elif account:
        raise Refusal(400, "goes with scope account or job", field="account")
    if scope == "job" and not _JOB.fullmatch(job):
        raise Refusal(400, "must be the id of a job", field="job")
    if scope != "job" and job:
        raise Refusal(400, "goes with scope job", field="job")
    return ResyncRequest(
        scope=scope,
        account=account.rstrip("/"),
        job=job,
        parts=_parts(body),
        mode=_choice(body, "mode", MODES, "apply"),
        since=_since(body.get("since")),
        force=_flag(body, "force"),
    )


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > 2048:
        raise Refusal(400, "must be text", field=name)
    return value.strip()


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise Refusal(400, "must be true or false", field=name)
    return value


def _choice(body: Mapping[str, Any], name: str, choices: tuple[str, ...], default: str) -> str:
    value = body.get(name, default)
    if value not in choices:
        raise Refusal(400, f"must be one of {', '.join(choices)}", field=name)
    return str(value)


def _parts(body: Mapping[str, Any]) -> tuple[str, ...]:
    value = body.get("parts")
    if value is None:
        return PARTS
    if not isinstance(value, list) or not value or any(part not in PARTS for part in value):
        raise Refusal(400, f"must be a list of {', '.join(PARTS)}", field="parts")
    return tuple(part for part in PARTS if part in value)


def _since(value: object) -> float | None:
    if value is None or value == "":
        return None
    if isinstance(value, str):
        try:
            if len(value) == 10:
                day = date.fromisoformat(value)
                return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
            moment = datetime.fromisoformat(value)
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
            # It is shown in UTC: at either end of the calendar a zone, or rounding, leads out of it.
            datetime.fromtimestamp(seconds, UTC)
        except ValueError:
            pass
        else:
            return seconds
    raise Refusal(
        400, "must be a date", field="since", remedy="write 2026-01-31 or 2026-01-31T12:00:00Z"
    )
