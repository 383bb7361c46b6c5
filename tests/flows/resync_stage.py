"""The ports of a re-sync in memory, with a host that dies where a test says so."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import orjson

from finetune_wandb.flows.app import App
from finetune_wandb.model.errors import MissingError
from finetune_wandb.model.messages import AccountMessage, Message, RelayMessage, read_message
from finetune_wandb.model.relay.cursor import JobSeen
from finetune_wandb.model.relay.ports import Listing
from finetune_wandb.model.resync import Resync, ResyncItem, ResyncRequest
from finetune_wandb.model.telemetry import NoTelemetry
from finetune_wandb.model.work import RELAY
from finetune_wandb.relay.ports import RelayOptions
from tests.fakes import FakeAudit, relay_account

ACCOUNT = relay_account()
ID = "f" * 32


class HostDiedError(BaseException):
    """The process is gone: nothing after it runs, nothing catches it."""


class Resyncs:
    """ResyncTable in memory. Dies before the write whose number is `dies_at` (from 1)."""

    def __init__(self) -> None:
        self.heads: dict[str, Resync] = {}
        self.items: dict[str, dict[str, ResyncItem]] = {}
        self.latest_of: dict[str, str] = {}
        self.dies_at = 0
        self.writes = 0

    def _write(self) -> None:
        self.writes += 1
        if self.writes == self.dies_at:
            raise HostDiedError

    async def write(self, resync: Resync) -> None:
        self._write()
        self.heads[resync.id] = resync
        self.items.setdefault(resync.id, {})

    async def read(self, resync_id: str) -> tuple[Resync, list[ResyncItem]] | None:
        head = self.heads.get(resync_id)
        items = sorted(self.items.get(resync_id, {}).values(), key=lambda item: item.name)
        return (head, items) if head else None

    async def read_head(self, resync_id: str) -> Resync | None:
        return self.heads.get(resync_id)

    async def remove(self, resync_id: str) -> None:
        self.heads.pop(resync_id, None)
        self.items.pop(resync_id, None)

    async def read_item(self, resync_id: str, name: str) -> ResyncItem | None:
        return self.items.get(resync_id, {}).get(name)

    async def add_item(self, resync_id: str, item: ResyncItem) -> None:
        self._write()
        self.items[resync_id].setdefault(item.name, item)

    async def write_item(self, resync_id: str, item: ResyncItem) -> None:
        self._write()
        self.items[resync_id][item.name] = item

    async def remove_item(self, resync_id: str, name: str) -> None:
        self._write()
        self.items[resync_id].pop(name, None)

    async def running(self, fingerprint: str) -> str:
        return self.latest_of.get(fingerprint, "")

    async def latest(self) -> list[tuple[str, float]]:
        found = [(one, self.heads[one].created_at) for one in self.latest_of.values()]
        return sorted(found, key=lambda pair: pair[1], reverse=True)

    async def purge(self, before: float) -> None:
        for fingerprint, resync_id in list(self.latest_of.items()):
            if self.heads[resync_id].created_at < before:
                await self.remove(resync_id)
                del self.latest_of[fingerprint]

    async def claim(self, fingerprint: str, resync: Resync, *, instead_of: str) -> str:
        if self.latest_of.get(fingerprint, "") == instead_of:
            self.latest_of[fingerprint] = resync.id
            await self.remove(instead_of)
        return self.latest_of[fingerprint]


class Queue:
    """Keeps what is sent. Dies before the message whose number is `dies_at` (from 1)."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.delays: list[float] = []
        self.dies_at = 0

    def put(self, message: Message, delay_s: float) -> None:
        if len(self.sent) + 1 == self.dies_at:
            self.dies_at = 0
            raise HostDiedError
        self.sent.append(orjson.loads(message.to_json()))
        self.delays.append(delay_s)


class Stage:
    """An app with one account of the given jobs, and a re-sync of its jobs."""

    def __init__(self, jobs: int = 0, **request: Any) -> None:
        self.audit = FakeAudit()
        self.jobs = [_job(number) for number in range(jobs)]
        self.seen: dict[str, str] = {}
        self.resyncs, self.relay_queue, self.reconcile_queue = Resyncs(), Queue(), Queue()
        self.now = 1000.0
        wanted = {"scope": "account", "account": str(ACCOUNT.id), "parts": ("jobs",)} | request
        self.head = Resync(id=ID, request=ResyncRequest(**wanted), created_at=self.now)
        self.resyncs.heads[ID], self.resyncs.items[ID] = self.head, {}
        self.app = cast(
            App,
            SimpleNamespace(
                resyncs=self.resyncs,
                audit=self.audit,
                now=lambda: datetime.fromtimestamp(self.now, UTC),
                queues=self,
                accounts=SimpleNamespace(
                    find_for_relay=self._account, list_all=self._known_accounts
                ),
                finder=SimpleNamespace(pages=self._pages),
                relay=SimpleNamespace(
                    jobs=SimpleNamespace(read_job=self._read_job),
                    cursors=SimpleNamespace(seen=self._seen),
                ),
                options=RelayOptions(),
                clock=lambda: self.now,
                telemetry=NoTelemetry(),
            ),
        )

    async def send(self, messages: Iterable[Message], *, delay_s: float = 0) -> None:
        """Be the WorkPort: each message goes to its own queue."""
        queues = {"reconcile-accounts": self.reconcile_queue, "backfill-jobs": self.relay_queue}
        for message in messages:
            queues[message.queue].put(message, delay_s)

    async def _account(self, account: Any) -> Any:
        return ACCOUNT if account.key == ACCOUNT.key else None

    async def _known_accounts(self) -> list[Any]:
        return [SimpleNamespace(id=ACCOUNT.id, key=ACCOUNT.key, deleted=False)]

    async def _pages(self, account: Any) -> AsyncIterator[Listing]:
        for start in range(0, len(self.jobs), 100):
            yield Listing(self.jobs[start : start + 100], start + 100 < len(self.jobs))

    async def _read_job(self, account: Any, job: str) -> dict[str, Any]:
        for raw in self.jobs:
            if raw["id"] == job:
                return raw
        raise MissingError("404", subject=job)

    async def _seen(self, account: str) -> list[JobSeen]:
        return [JobSeen(job, cast(Any, state), 0.0) for job, state in self.seen.items()]

    def add_newest(self, count: int) -> None:
        self.jobs = [_job(len(self.jobs) + number) for number in range(count)] + self.jobs

    @property
    def message(self) -> AccountMessage:
        return AccountMessage(account=str(ACCOUNT.id), trigger="resync", resync=ID)

    @property
    def items(self) -> dict[str, ResyncItem]:
        return self.resyncs.items[ID]

    def put_account_item(self) -> None:
        name = f"account {ACCOUNT.key}"
        self.items[name] = ResyncItem(name=name, account=str(ACCOUNT.id))

    @property
    def account_item(self) -> ResyncItem:
        return self.items[f"account {ACCOUNT.key}"]

    @property
    def job_items(self) -> list[ResyncItem]:
        return [item for name, item in sorted(self.items.items()) if name.startswith("jobs ")]

    def messages(self) -> list[RelayMessage]:
        """Take what was sent to the relay's queue."""
        taken, self.relay_queue.sent = self.relay_queue.sent, []
        return [read_message(RELAY, orjson.dumps(message)) for message in taken]

    def spread(self) -> None:
        self.resyncs.heads[ID] = replace(self.head, spread=True)


def _job(number: int) -> dict[str, Any]:
    return {"id": f"ftjob-{number:03d}", "status": "succeeded", "created_at": 1000 + number}
