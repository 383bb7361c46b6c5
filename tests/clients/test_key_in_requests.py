"""Requests to W&B carry the key that is in use when they start, each repetition of them too."""

from hashlib import sha256

import pytest

from finetune_wandb.clients.transport import Transport
from finetune_wandb.clients.wandb.sink import WandbSink
from finetune_wandb.model.errors import DeniedError
from finetune_wandb.model.relay.cursor import RunPath
from finetune_wandb.model.relay.ports import RunAttributes, RunKey
from finetune_wandb.model.secret import Secret
from tests.clients.azure_stage import KEY, OTHER_KEY, fault
from tests.dev.sandbox.stage import Client

pytestmark = pytest.mark.sandbox_only

RUN = RunPath("sandbox-team", "proj", "run-1")
ATTRIBUTES = RunAttributes("a run", "", "fine-tuning", (), "")


class Switch:
    """Gives the keys in turn; the last one stays."""

    def __init__(self, *keys: str) -> None:
        self._keys = list(keys)

    async def __call__(self) -> Secret:
        return Secret(self._keys.pop(0) if len(self._keys) > 1 else self._keys[0])


@pytest.fixture
async def sink(sandbox: Client, transport: Transport) -> WandbSink:
    made = WandbSink(transport, sandbox.process.wandb_url)
    await made.ensure_run(RUN, ATTRIBUTES, is_new=True, pending=False, key=RunKey("", Secret(KEY)))
    await sandbox.control("DELETE", "requests")
    status, _, _ = await sandbox.call("DELETE", "/_sandbox/wandb/requests-by-key")
    assert status == 204
    return made


async def used(sandbox: Client) -> dict[str, int]:
    names = {sha256(key.encode()).hexdigest()[:12]: key[-1] for key in (KEY, OTHER_KEY)}
    counts: dict[str, int] = {}
    for item in await sandbox.control("GET", "wandb/requests-by-key"):
        name = names[item["key_sha256"]]
        counts[name] = counts.get(name, 0) + item["count"]
    return counts


async def test_each_request_asks_for_the_key_when_it_starts(
    sandbox: Client, sink: WandbSink
) -> None:
    key = RunKey("sandbox-team", Secret(KEY), Switch(KEY, OTHER_KEY))
    await sink.post(RUN, b"{}", key=key)
    await sink.post(RUN, b"{}", key=key)
    await sink.ensure_run(RUN, ATTRIBUTES, is_new=True, pending=False, key=key)
    assert await used(sandbox) == {"k": 1, "o": 2}


async def test_repetition_carries_the_new_key_when_it_was_switched_meanwhile(
    sandbox: Client, sink: WandbSink
) -> None:
    await fault(sandbox, "wandb", {"drop": "after"}, times=1)
    await sink.post(RUN, b"{}", key=RunKey("", Secret(KEY), Switch(KEY, OTHER_KEY)))
    assert await used(sandbox) == {"k": 1, "o": 1}


async def test_no_request_is_made_when_no_key_may_be_used(sandbox: Client, sink: WandbSink) -> None:
    async def refused() -> Secret:
        raise DeniedError("W&B does not accept the key in use", code="401")

    with pytest.raises(DeniedError):
        await sink.post(RUN, b"{}", key=RunKey("", Secret(KEY), refused))
    assert await used(sandbox) == {}
