"""What a look at a key sends on: those who depend on it are looked at, whatever breaks off."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from finetune_wandb.flows.account_work import prove_key
from finetune_wandb.model.errors import ConflictError
from finetune_wandb.model.messages import ReconcileMessage
from tests.accounts.fakes import BETTER, NOW, PLACE, Topic, World, settings, version, world
from tests.fakes import FakeQueue


def make_app(azure: World) -> Any:
    entry = SimpleNamespace(
        id="the-account",
        secret=PLACE,
        in_scope=True,
        deleted=False,
        checked_at=NOW - timedelta(hours=1),
    )

    async def list_all() -> list[Any]:
        return [entry]

    return SimpleNamespace(
        settings=settings(),
        reconcile=azure.ports(),
        notices=Topic(azure),
        accounts=SimpleNamespace(list_all=list_all),
        reconcile_queue=FakeQueue(),
        now=lambda: NOW,
        clock=NOW.timestamp,
    )


MESSAGE = ReconcileMessage(kind="key", secret=PLACE, trigger="a test")


async def test_dependents_are_sent_when_the_first_try_broke_off_at_the_queue() -> None:
    azure = world()
    app = make_app(azure)
    await prove_key(MESSAGE, app)
    azure.secrets[PLACE].append(version("v2", BETTER))
    app = make_app(azure)
    app.reconcile_queue.full = True
    with pytest.raises(ConflictError):
        await prove_key(MESSAGE, app)
    app = make_app(azure)
    await prove_key(MESSAGE, app)
    assert [sent["account"] for sent in app.reconcile_queue.sent] == ["the-account"]
    await prove_key(MESSAGE, app)
    assert len(app.reconcile_queue.sent) == 1
