"""What travels on the app's queues. Decoding raises NoticeError naming the field that is wrong.

Messages carry ids and reduced job objects, never a secret and never an event's body.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal

import orjson

from finetune_wandb.model import ids
from finetune_wandb.model.errors import NoticeError
from finetune_wandb.model.secret import SecretRef, secret_at

_MOST: Final = 1e11
"""No count and no time (unix seconds) that a message carries is this large."""

Kind = Literal["account", "key", "resync", "requeue"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileMessage:
    """Work for `reconcile_account`: check one account, prove one key, spread a re-sync, or take
    set-aside messages up again."""

    kind: Kind
    account: str = ""
    secret: SecretRef | None = None
    """Whose newest version to prove, for a key."""
    trigger: str = ""
    """What made this work: an event's type, `drift`, `resync`, `deferred`, `key`."""
    sent_at: float = 0.0
    """Unix seconds; facts read before this moment are not used."""
    apply: bool = True
    attempt: int = 0
    """How many times a part of this was put off already."""
    resync: str = ""
    """Id of the re-sync this belongs to, empty for none."""

    def to_json(self) -> dict[str, Any]:
        # False is equal to 0 and says something: only looking.
        values = {name: getattr(self, name) for name in _RECONCILE_FIELDS}
        if self.secret is not None:
            values |= {"vault": self.secret.vault.host, "secret": self.secret.name}
        return {
            name: value
            for name, value in values.items()
            if isinstance(value, bool) or value not in ("", 0, None)
        }


_RECONCILE_FIELDS: Final = tuple(item.name for item in fields(ReconcileMessage))


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayMessage:
    """Work for `relay_jobs`: some jobs of one account, as the listing showed them."""

    account: ids.AccountId
    jobs: list[dict[str, Any]] = field(default_factory=list)
    trigger: str = ""
    sent_at: float = 0.0
    force: bool = False
    """Read everything that Azure published again, of complete jobs too."""
    resync: str = ""
    item: str = ""
    """Name of the re-sync's item, to report under."""
    attempt: int = 0
    """How many times jobs of this item were put off already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactMessage:
    """Work for `job_artifacts`: finished jobs of one account."""

    account: ids.AccountId
    jobs: list[str]
    attempt: int = 0
    """How often it was tried before."""


def read_artifacts(body: bytes | str) -> ArtifactMessage:
    """Return the message in a queue body."""
    raw = _object(body)
    jobs = raw.get("jobs")
    if not isinstance(jobs, list) or not all(isinstance(job, str) and job for job in jobs):
        raise NoticeError("not a list of job ids", subject="jobs")
    return ArtifactMessage(
        account=ids.parse_account_id(raw.get("account")),
        jobs=jobs,
        attempt=int(_number(raw, "attempt")),
    )


def read_reconcile(body: bytes | str) -> ReconcileMessage:
    """Return the message in a queue body."""
    raw = _object(body)
    kind = raw.get("kind")
    secret: SecretRef | None = None
    if kind == "account":
        ids.parse_account_id(raw.get("account"))
    elif kind == "key":
        secret = secret_at(str(raw.get("vault")), _text(raw, "secret"))
        if not ids.is_secret_name(secret.name):
            raise NoticeError("not a secret name", subject="secret")
    elif kind != "requeue" and (kind != "resync" or not _text(raw, "resync")):
        raise NoticeError("unknown kind of work", subject="kind")
    return ReconcileMessage(
        kind=kind,
        account=_text(raw, "account"),
        secret=secret,
        trigger=_text(raw, "trigger"),
        sent_at=_number(raw, "sent_at"),
        apply=raw.get("apply") is not False,
        attempt=int(_number(raw, "attempt")),
        resync=_text(raw, "resync"),
    )


def read_relay(body: bytes | str) -> RelayMessage:
    """Return the message in a queue body."""
    raw = _object(body)
    jobs = raw.get("jobs")
    if not isinstance(jobs, list) or not all(isinstance(job, dict) for job in jobs):
        raise NoticeError("not a list of jobs", subject="jobs")
    return RelayMessage(
        account=ids.parse_account_id(raw.get("account")),
        jobs=jobs,
        trigger=_text(raw, "trigger"),
        sent_at=_number(raw, "sent_at"),
        force=raw.get("force") is True,
        resync=_text(raw, "resync"),
        item=_text(raw, "item"),
        attempt=int(_number(raw, "attempt")),
    )


def _object(body: bytes | str) -> Mapping[str, Any]:
    try:
        raw = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise NoticeError("the message is not JSON", subject="body") from None
    if not isinstance(raw, dict):
        raise NoticeError("the message is not an object", subject="body")
    return raw


def _text(raw: Mapping[str, Any], name: str) -> str:
    value = raw.get(name, "")
    if not isinstance(value, str):
        raise NoticeError("is not text", subject=name)
    return value


def _number(raw: Mapping[str, Any], name: str) -> float:
    value = raw.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < _MOST:
        raise NoticeError("is not a number that it can be", subject=name)
    return float(value)
