"""A re-sync by hand: what was asked for, and how far it is."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, date, datetime
from typing import Any, Final, Literal

from model import ids
from model.errors import NoticeError

ItemState = Literal["pending", "done", "failed"]
SCOPES: Final = ("all", "account", "job")
PARTS: Final = ("integration", "jobs")
MODES: Final = ("check", "apply")
_FIELDS: Final = frozenset({"scope", "account", "job", "parts", "mode", "since", "force"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ResyncRequest:
    """A valid request. `since` is unix seconds, None for no limit."""

    scope: str = "all"
    account: str = ""
    job: str = ""
    parts: tuple[str, ...] = PARTS
    mode: str = "apply"
    since: float | None = None
    force: bool = False

    @property
    def applies(self) -> bool:
        return self.mode == "apply"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resync:
    """A re-sync that was taken on. Times are unix seconds."""

    id: str
    request: ResyncRequest
    requested_by: str = ""
    created_at: float = 0.0
    spread: bool = False
    """Whether its items are all known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResyncItem:
    """One part of the work: an account's check, or some jobs of one account."""

    name: str
    """`account ID` or `jobs ID first-job`; unique in its re-sync."""
    account: str
    state: ItemState = "pending"
    total: int = 1
    done: int = 0
    failed: int = 0
    results: list[dict[str, Any]] = field(default_factory=list)
    """What people need to see: failures with their remedies, plans of a check."""


def request_from_body(body: object, *, subscriptions: tuple[str, ...]) -> ResyncRequest:
    """Return the request in a JSON body. Raises NoticeError naming the field that is wrong."""
    if body is None:
        body = {}
    if not isinstance(body, Mapping):
        raise NoticeError("the body must be a JSON object", subject="body")
    if unknown := sorted(set(map(str, body)) - _FIELDS):
        raise NoticeError(
            "no such field", subject=unknown[0][:60], remedy=f"known: {', '.join(sorted(_FIELDS))}"
        )
    scope = _choice(body, "scope", SCOPES, "all")
    account, job = _text(body, "account"), _text(body, "job")
    if scope in ("account", "job"):
        account_id = ids.parse_account_id(account)
        if account_id.subscription.lower() not in subscriptions:
            raise NoticeError(
                "the account's subscription is not looked after",
                subject="account",
                remedy="add its subscription to AZURE_SUBSCRIPTION_IDS",
            )
    elif account:
        raise NoticeError("goes with scope account or job", subject="account")
    if scope == "job" and not job:
        raise NoticeError("is needed with scope job", subject="job")
    if scope != "job" and job:
        raise NoticeError("goes with scope job", subject="job")
    return ResyncRequest(
        scope=scope,
        account=account,
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
        raise NoticeError("must be text", subject=name)
    return value.strip()


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise NoticeError("must be true or false", subject=name)
    return value


def _choice(body: Mapping[str, Any], name: str, choices: tuple[str, ...], default: str) -> str:
    value = body.get(name, default)
    if value not in choices:
        raise NoticeError(f"must be one of {', '.join(choices)}", subject=name)
    return str(value)


def _parts(body: Mapping[str, Any]) -> tuple[str, ...]:
    value = body.get("parts")
    if value is None:
        return PARTS
    if not isinstance(value, list) or not value or any(part not in PARTS for part in value):
        raise NoticeError(f"must be a list of {', '.join(PARTS)}", subject="parts")
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
        except ValueError:
            pass
        else:
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    raise NoticeError(
        "must be a date", subject="since", remedy="write 2026-01-31 or 2026-01-31T12:00:00Z"
    )


def to_json(value: Resync | ResyncItem) -> dict[str, Any]:
    """Return a re-sync or an item as it is stored."""
    return asdict(value)


def resync_from_json(data: Mapping[str, Any]) -> Resync:
    """Return the re-sync that `to_json` wrote."""
    request = dict(data["request"])
    request["parts"] = tuple(request["parts"])
    known = {item.name for item in fields(ResyncRequest)}
    return Resync(
        id=data["id"],
        request=ResyncRequest(**{name: request[name] for name in known if name in request}),
        requested_by=data["requested_by"],
        created_at=data["created_at"],
        spread=data["spread"],
    )
