"""What a look at a key sends on: those who depend on it are looked at, whatever breaks off."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from finetune_wandb.flows.key import handle
from finetune_wandb.model.errors import ConflictError
from finetune_wandb.model.messages import key_message
from tests.fakes import (
    BETTER,
    NOW,
    PLACE,
    FakeQueue,
    FakeTopic,
    World,
    relay_account,
    settings,
    version,
    world,
)

DEPENDENT = str(relay_account().id)


def make_app(azure: World) -> Any:
    entry = SimpleNamespace(
        id=DEPENDENT,
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
        rotation=None,  # not asked for by the settings
        notices=FakeTopic(azure),
        accounts=SimpleNamespace(list_all=list_all),
        queues=FakeQueue(),
        now=lambda: NOW,
        clock=NOW.timestamp,
    )


MESSAGE = key_message(PLACE, trigger="a test", now=0.0)


async def test_dependents_are_sent_when_the_first_try_broke_off_at_the_queue() -> None:
    azure = world()
    app = make_app(azure)
    await handle(MESSAGE, app)
    azure.secrets[PLACE].append(version("v2", BETTER))
    app = make_app(azure)
    app.queues.full = True
    with pytest.raises(ConflictError):
        await handle(MESSAGE, app)
    app = make_app(azure)
    await handle(MESSAGE, app)
    assert [sent["account"] for sent in app.queues.sent] == [DEPENDENT]
    await handle(MESSAGE, app)
    assert len(app.queues.sent) == 1
