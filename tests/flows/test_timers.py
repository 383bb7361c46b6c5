"""A drift pass: who is looked at, and what is removed."""

from collections.abc import AsyncIterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from finetune_wandb.flows.timers import drift, tick
from finetune_wandb.model.errors import DeniedError, UnavailableError
from finetune_wandb.model.ids import AccountId
from finetune_wandb.model.messages import read_message
from finetune_wandb.model.secret import secret_at
from finetune_wandb.model.telemetry import NoTelemetry
from finetune_wandb.model.work import RECONCILE
from finetune_wandb.relay.passes.finder import Found
from tests.fakes import (
    LONG_AGO,
    NOW,
    SUBSCRIPTION,
    FakeProblems,
    FakeQueue,
    FakeWork,
    account_id,
    settings,
)

OTHER_SECRET = secret_at("kv-other.vault.azure.net", "wandb-api-key")


class Stage:
    """One account that the subscription lists, and what the tables hold."""

    def __init__(self, *entries: Any) -> None:
        self.queue, self.problems = FakeQueue(), FakeProblems()
        self.error: Exception | None = None
        self.purged: dict[str, Any] = {}
        self.entries = list(entries)
        nothing = self._nothing
        self.app: Any = SimpleNamespace(
            settings=settings(),
            clock=NOW.timestamp,
            now=lambda: NOW,
            telemetry=NoTelemetry(),
            accounts=SimpleNamespace(list_all=self._all),
            reconcile=SimpleNamespace(
                accounts=SimpleNamespace(list_ids=self._ids),
                keys=SimpleNamespace(list_all=nothing),
            ),
            audit=SimpleNamespace(purge=self._purge("audit")),
            rotation=SimpleNamespace(mints=SimpleNamespace(list_all=nothing)),
            relay=SimpleNamespace(cursors=SimpleNamespace(list_cursors=nothing)),
            resyncs=SimpleNamespace(purge=self._purge("resyncs")),
            problems=self.problems,
            work=FakeWork(),
            queues=SimpleNamespace(send=self.queue.send, counts=nothing),
        )
        self.problems.purge = self._purge("problems")  # type: ignore[attr-defined]

    async def _nothing(self, *_: Any, **__: Any) -> list[Any]:
        return []

    async def _all(self) -> list[Any]:
        return self.entries

    def _purge(self, table: str) -> Any:
        async def purge(*before: Any) -> int:
            self.purged[table] = before
            return 0

        return purge

    async def _ids(self, subscription: str) -> AsyncIterator[AccountId]:
        if self.error:
            raise self.error
        yield account_id("alpha")

    def sent(self) -> list[str]:
        messages = [read_message(RECONCILE, orjson.dumps(one)) for one in self.queue.sent]
        return [message.subject for message in messages]


def entry(name: str, *, deleted: bool = False, at: Any = NOW, secret: Any = None) -> Any:
    known = account_id(name)
    return SimpleNamespace(
        id=known,
        key=known.key,
        deleted=deleted,
        checked_at=at,
        secret=secret,
        in_scope=not deleted,
        healthy=True,
        findings=(),
    )


async def test_every_account_and_key_is_looked_at_once() -> None:
    just, long = NOW, LONG_AGO.replace(year=2025)
    stage = Stage(
        entry("alpha", secret=OTHER_SECRET),
        entry("unlisted"),
        entry(
            "just-deleted", deleted=True, at=just, secret=secret_at(OTHER_SECRET.vault.host, "x")
        ),
        entry("long-deleted", deleted=True, at=long),
    )
    assert await drift(stage.app) == 5
    accounts = [str(account_id(name)) for name in ("alpha", "unlisted", "just-deleted")]
    assert stage.sent() == [str(settings().default_secret), str(OTHER_SECRET), *accounts]


async def test_old_rows_are_purged_with_each_pass() -> None:
    stage = Stage()
    await drift(stage.app)
    month = NOW.timestamp() - 30 * 86_400
    assert stage.purged == {
        "audit": (NOW - timedelta(days=400),),
        "problems": (),
        "resyncs": (month,),
    }


@pytest.mark.parametrize("error", [DeniedError("no right"), UnavailableError("ARM is away")])
async def test_known_accounts_are_looked_at_when_the_subscription_cannot_be_listed(
    error: Exception,
) -> None:
    stage = Stage(entry("alpha"))
    stage.error = error
    await drift(stage.app)
    assert str(account_id("alpha")) in stage.sent()
    ((source, subject, _),) = stage.problems.known
    assert (source, subject) == ("drift_timer", SUBSCRIPTION)
    stage.error = None
    await drift(stage.app)
    assert not stage.problems.known


async def test_accounts_are_listed_when_the_table_of_begun_work_cannot_be_read() -> None:
    class Away(FakeWork):
        async def list_open(self) -> list[Any]:
            raise UnavailableError("storage is away")

    listed: list[Any] = []

    async def found(accounts: Any, *, clock: Any) -> Found:
        listed.append(accounts)
        return Found()

    async def list_for_relay() -> list[Any]:
        return ["one"]

    problems = FakeProblems()
    app: Any = SimpleNamespace(
        work=Away(),
        clock=NOW.timestamp,
        finder=SimpleNamespace(tick=found, failing=set()),
        accounts=SimpleNamespace(list_for_relay=list_for_relay),
        problems=problems,
    )
    await tick(app)
    assert listed == [["one"]]
    ((source, _, cause),) = problems.known
    assert (source, cause) == ("relay_timer", "storage is away")
