"""The key that requests carry: always the recorded version, read from the vault once."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from finetune_wandb.clients.azure.vaults import KeyVault
from finetune_wandb.clients.key_ring import FRESH_S, KeyRing
from finetune_wandb.clients.transport import Transport
from finetune_wandb.model.accounts.key import KeyRecord
from finetune_wandb.model.errors import AppError, DeniedError, MissingError, UnavailableError
from finetune_wandb.model.secret import Secret, SecretRef
from tests.clients.azure_stage import (
    KEY,
    OTHER_KEY,
    PLACE,
    fault,
    forget_requests,
    make_vault,
    put_secret,
    requests,
)
from tests.dev.sandbox.stage import Client

pytestmark = pytest.mark.sandbox_only


class Records:
    """What the table would say, and how often it was asked."""

    def __init__(self) -> None:
        self.record: KeyRecord | None = None
        self.reads = 0
        self.gate: asyncio.Event | None = None
        self.error: AppError | None = None

    async def read(self, secret: SecretRef) -> KeyRecord | None:
        self.reads += 1
        found, error = self.record, self.error
        if self.gate is not None:
            await self.gate.wait()
        if error is not None:
            raise error
        return found


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def records() -> Records:
    return Records()


@pytest.fixture
async def ring(sandbox: Client, transport: Transport, records: Records, clock: Clock) -> KeyRing:
    await make_vault(sandbox)
    return KeyRing(records, KeyVault(transport), clock)


async def in_use(sandbox: Client, records: Records, value: str) -> str:
    number = await put_secret(sandbox, value)
    records.record = KeyRecord(secret=PLACE, version=number, entity="team-a")
    return number


async def test_recorded_version_is_given_and_not_the_newest(
    sandbox: Client, ring: KeyRing, records: Records
) -> None:
    await in_use(sandbox, records, KEY)
    await put_secret(sandbox, OTHER_KEY)
    key = await ring.run_key(PLACE)
    assert (key.entity, key.value) == ("team-a", Secret(KEY))
    assert KEY not in repr(key)


async def test_key_that_is_in_memory_is_not_given_when_its_version_was_disabled(
    sandbox: Client, ring: KeyRing, records: Records, clock: Clock
) -> None:
    await in_use(sandbox, records, KEY)
    await ring.run_key(PLACE)
    assert records.record is not None
    records.record = replace(records.record, disabled=True)
    clock.now += FRESH_S
    with pytest.raises(DeniedError, match="disabled"):
        await ring.run_key(PLACE)
    records.record = replace(records.record, disabled=False)
    clock.now += FRESH_S
    assert (await ring.run_key(PLACE)).value == Secret(KEY)


async def test_vault_is_asked_once_and_the_table_once_a_second(
    sandbox: Client, ring: KeyRing, records: Records, clock: Clock
) -> None:
    await in_use(sandbox, records, KEY)
    await ring.run_key(PLACE)
    await forget_requests(sandbox)
    for _ in range(4):
        await asyncio.gather(*(ring.run_key(PLACE) for _ in range(20)))
        clock.now += FRESH_S / 2
    assert await requests(sandbox, "vault") == []
    assert records.reads == 2


async def test_one_read_serves_all_when_many_ask_at_once(
    sandbox: Client, ring: KeyRing, records: Records, clock: Clock
) -> None:
    await in_use(sandbox, records, OTHER_KEY)
    await ring.run_key(PLACE)
    await in_use(sandbox, records, KEY)
    clock.now += FRESH_S
    await forget_requests(sandbox)
    found = await asyncio.gather(*(ring.run_key(PLACE) for _ in range(20)))
    assert all(item.value == Secret(KEY) for item in found)
    assert len(await requests(sandbox, "vault")) == 1
    assert records.reads == 2


async def test_new_key_is_carried_within_a_second_when_another_process_has_switched(
    sandbox: Client, ring: KeyRing, records: Records, clock: Clock
) -> None:
    await in_use(sandbox, records, KEY)
    await ring.run_key(PLACE)
    await in_use(sandbox, records, OTHER_KEY)
    clock.now += FRESH_S * 0.99
    assert (await ring.run_key(PLACE)).value == Secret(KEY)
    clock.now += FRESH_S * 0.01
    assert (await ring.run_key(PLACE)).value == Secret(OTHER_KEY)


async def test_new_key_is_carried_at_once_when_this_process_has_switched(
    sandbox: Client, ring: KeyRing, records: Records
) -> None:
    await in_use(sandbox, records, KEY)
    await ring.run_key(PLACE)
    await in_use(sandbox, records, OTHER_KEY)
    assert records.record is not None
    ring.note(records.record)
    assert (await ring.run_key(PLACE)).value == Secret(OTHER_KEY)
    assert records.reads == 1


async def test_old_key_is_not_given_when_the_switch_came_while_the_table_was_read(
    sandbox: Client, ring: KeyRing, records: Records, clock: Clock
) -> None:
    await in_use(sandbox, records, KEY)
    await ring.run_key(PLACE)
    clock.now += FRESH_S
    records.gate = asyncio.Event()
    asked = asyncio.ensure_future(ring.run_key(PLACE))
    await asyncio.sleep(0)
    await in_use(sandbox, records, OTHER_KEY)
    assert records.record is not None
    ring.note(records.record)
    records.gate.set()
    assert (await asked).value == Secret(OTHER_KEY)


async def test_old_key_is_not_given_when_the_switch_came_while_the_vault_was_read(
    sandbox: Client, ring: KeyRing, records: Records
) -> None:
    await in_use(sandbox, records, KEY)
    old = records.record
    await in_use(sandbox, records, OTHER_KEY)
    new, records.record = records.record, old
    assert new is not None
    await fault(sandbox, "vault", {"delay_s": 0.3}, times=1)
    asked = asyncio.ensure_future(ring.run_key(PLACE))
    await asyncio.sleep(0.1)
    ring.note(new)
    assert (await asked).value == Secret(OTHER_KEY)


async def test_nothing_is_given_when_the_record_is_old_and_cannot_be_read(
    sandbox: Client, ring: KeyRing, records: Records, clock: Clock
) -> None:
    await in_use(sandbox, records, KEY)
    await ring.run_key(PLACE)
    clock.now += FRESH_S
    records.error = UnavailableError("no")
    with pytest.raises(UnavailableError):
        await ring.run_key(PLACE)
    records.error = None
    assert (await ring.run_key(PLACE)).value == Secret(KEY)


async def test_denied_is_raised_while_the_key_in_use_is_refused(
    sandbox: Client, ring: KeyRing, records: Records, clock: Clock
) -> None:
    await in_use(sandbox, records, KEY)
    good = records.record
    assert good is not None
    records.record = replace(good, refused_at=datetime(2026, 11, 24, tzinfo=UTC))
    with pytest.raises(DeniedError) as caught:
        await ring.run_key(PLACE)
    assert caught.value.code == "401"
    assert await requests(sandbox, "vault") == []
    ring.note(good)
    assert (await ring.run_key(PLACE)).value == Secret(KEY)


async def test_one_cancelled_request_does_not_fail_the_others(
    sandbox: Client, ring: KeyRing, records: Records
) -> None:
    await in_use(sandbox, records, KEY)
    records.gate = asyncio.Event()
    first, second = (asyncio.ensure_future(ring.run_key(PLACE)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    records.gate.set()
    assert (await second).value == Secret(KEY)


@pytest.mark.parametrize("known", [False, True])
async def test_missing_is_raised_with_a_remedy_when_no_version_was_accepted(
    sandbox: Client, ring: KeyRing, records: Records, known: bool
) -> None:
    await in_use(sandbox, records, KEY)
    assert records.record is not None
    records.record = (
        replace(records.record, version="", newest_cause="key_rejected") if known else None
    )
    with pytest.raises(MissingError) as caught:
        await ring.run_key(PLACE)
    assert caught.value.code == ("key_rejected" if known else "key_unknown")
    assert caught.value.remedy


async def test_failure_is_not_kept(sandbox: Client, ring: KeyRing, records: Records) -> None:
    await in_use(sandbox, records, KEY)
    await fault(sandbox, "vault", {"status": 503}, times=4)
    with pytest.raises(UnavailableError):
        await ring.run_key(PLACE)
    assert (await ring.run_key(PLACE)).value == Secret(KEY)
