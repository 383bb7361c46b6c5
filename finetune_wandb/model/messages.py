"""What travels on the app's queues: typed messages, with one way to JSON and back.

Messages carry ids and reduced job objects, never a secret and never an event's body. A message
that cannot be read raises NoticeError naming the field that is wrong.
"""

import re
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Final, Self

import msgspec

from finetune_wandb.model import ids
from finetune_wandb.model.errors import NoticeError
from finetune_wandb.model.secret import SecretRef, secret_at
from finetune_wandb.model.work import ARTIFACTS, BACKFILL, RECONCILE, RELAY

_Moment = Annotated[float, msgspec.Meta(ge=0, lt=1e11)]
"""Unix seconds."""
_Count = Annotated[int, msgspec.Meta(ge=0, lt=1000)]
_Text = Annotated[str, msgspec.Meta(min_length=1)]


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base. Each kind of message belongs to one queue."""

    queue: ClassVar[str]
    trigger: str = ""
    """What started this work: an event's type, `drift`, `timer`, `resync`, `deferred`, `key`."""
    sent_at: _Moment = 0.0
    """Facts read before this moment are not used."""
    attempt: _Count = 0
    """How many times a part of this work was deferred."""
    resync: str = ""
    """Id of the re-sync this belongs to, empty for none."""
    by: str = ""
    """On whose request, for the audit: a caller's name, or the object id that an event names."""

    @property
    def by_tick(self) -> bool:
        """Whether a tick sent it; then the next tick sends the same work again."""
        return self.trigger in ("timer", "beat", "missing")

    @property
    def subject(self) -> str:
        """What the message is about, as the status shows it."""
        return self.resync or self.queue

    def to_json(self) -> bytes:
        """Return the JSON that the queue carries."""
        return msgspec.json.encode(self)

    def deferred(self) -> Self:
        """Return the message for a retry. A re-sync does not wait for it."""
        return msgspec.structs.replace(
            self, trigger="deferred", attempt=self.attempt + 1, sent_at=0.0, resync=""
        )


class _OfAccount(Message, frozen=True, kw_only=True):
    account: str

    def __post_init__(self) -> None:
        ids.parse_account_id(self.account)

    @property
    def target(self) -> ids.AccountId:
        return ids.parse_account_id(self.account)

    @property
    def subject(self) -> str:
        return self.account


class AccountMessage(_OfAccount, frozen=True, kw_only=True, tag_field="kind", tag="account"):
    """Check one account and, where allowed, apply its plan."""

    queue: ClassVar[str] = RECONCILE
    apply: bool = True


class KeyMessage(Message, frozen=True, kw_only=True, tag_field="kind", tag="key"):
    """Prove the newest version of one secret."""

    queue: ClassVar[str] = RECONCILE
    vault: str
    """Vault host."""
    secret: str

    def __post_init__(self) -> None:
        if not ids.is_secret_name(self.ref.name):
            raise NoticeError("not a secret name", subject="secret")

    @property
    def ref(self) -> SecretRef:
        return secret_at(self.vault, self.secret)

    @property
    def subject(self) -> str:
        return str(self.ref)


def key_message(secret: SecretRef, *, trigger: str, now: float) -> KeyMessage:
    """Return the message that requests a look at this secret. `now` is in unix seconds."""
    return KeyMessage(vault=secret.vault.host, secret=secret.name, trigger=trigger, sent_at=now)


def account_messages(
    accounts: Iterable[object], *, trigger: str, now: float, by: str = ""
) -> list[AccountMessage]:
    """Return messages that request checks of accounts, by ARM id. `now` is in unix seconds."""
    return [
        AccountMessage(account=str(one), trigger=trigger, sent_at=now, by=by) for one in accounts
    ]


class ResyncMessage(Message, frozen=True, kw_only=True, tag_field="kind", tag="resync"):
    """Spread a re-sync over its accounts."""

    queue: ClassVar[str] = RECONCILE
    resync: _Text


class RequeueMessage(Message, frozen=True, kw_only=True, tag_field="kind", tag="requeue"):
    """Put the messages in the poison queues back on their queues."""

    queue: ClassVar[str] = RECONCILE


ReconcileMessage = AccountMessage | KeyMessage | ResyncMessage | RequeueMessage


class RelayMessage(_OfAccount, frozen=True, kw_only=True):
    """Relay some jobs of one account, given as the listing showed them or by id alone."""

    queue: ClassVar[str] = RELAY
    jobs: list[dict[str, Any]]
    force: bool = False
    """Read everything that Azure published again, also of complete jobs."""
    item: str = ""
    """Name of the re-sync's item, to report under."""

    @property
    def job_ids(self) -> list[str]:
        return [str(job.get("id")) for job in self.jobs]


class BackfillMessage(RelayMessage, frozen=True, kw_only=True):
    """The same for jobs that must not delay live ones."""

    queue: ClassVar[str] = BACKFILL


class ArtifactMessage(_OfAccount, frozen=True, kw_only=True):
    """Log the artifacts of finished jobs of one account."""

    queue: ClassVar[str] = ARTIFACTS
    jobs: list[_Text]


_FIELD: Final = re.compile(r"field `(\w+)`|`\$\.(\w+)")
_DECODERS: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    RECONCILE: msgspec.json.Decoder(ReconcileMessage),
    RELAY: msgspec.json.Decoder(RelayMessage),
    BACKFILL: msgspec.json.Decoder(BackfillMessage),
    ARTIFACTS: msgspec.json.Decoder(ArtifactMessage),
}


def read_message(queue: str, body: bytes | str) -> Any:
    """Return a queue's message, of the kind that the queue carries. Raises NoticeError."""
    try:
        return _DECODERS[queue].decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        found = _FIELD.search(str(error))
        field = (found[1] or found[2]) if found else "body"
        raise NoticeError("the message is malformed", subject=field) from None
