"""People are told once per change, of states that last, and never of a key's value."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest

from finetune_wandb.accounts.notify import is_untold, notify_key, save_and_notify
from finetune_wandb.keys.in_use import prove_newest
from finetune_wandb.model.accounts.key import KeyReport
from finetune_wandb.model.accounts.ports import OutgoingNotice
from finetune_wandb.model.errors import DeniedError, UnavailableError
from tests.accounts.stage import run_pass
from tests.fakes import (
    BETTER,
    GOOD,
    NOW,
    PLACE,
    REVOKED,
    FakeAccountTable,
    FakeKeyTable,
    FakeTopic,
    World,
    account,
    settings,
    version,
    world,
)


async def passes(azure: World, count: int = 1) -> None:
    for number in range(count):
        report = await run_pass(azure, now=NOW + timedelta(minutes=number))
        await save_and_notify(report, accounts=FakeAccountTable(azure), notices=FakeTopic(azure))


def told(azure: World) -> list[str]:
    return [item.type.removeprefix("WandbRelay.") for item in azure.notices]


async def test_health_is_told_once_when_it_stays() -> None:
    azure = world()
    await passes(azure, 3)
    assert told(azure) == ["AccountHealthy"]


async def test_each_change_is_told_once() -> None:
    azure = world()
    await passes(azure, 2)
    good = azure.secrets
    azure.secrets = {}
    await passes(azure, 2)
    azure.secrets = good
    await passes(azure, 2)
    assert told(azure) == ["AccountHealthy", "AccountUnhealthy", "AccountHealthy"]
    assert len({item.id for item in azure.notices}) == 3


async def test_notice_keeps_its_id_when_the_answer_of_the_topic_is_lost() -> None:
    azure = world()
    topic = LossyTopic(azure, lost=2)
    for number in range(4):
        report = await run_pass(azure, now=NOW + timedelta(minutes=number))
        await save_and_notify(report, accounts=FakeAccountTable(azure), notices=topic)
    assert told(azure) == ["AccountHealthy"] * 3
    assert len({item.id for item in azure.notices}) == 1


async def test_failed_step_is_told_by_a_later_pass_when_the_topic_was_away() -> None:
    azure = world()
    azure.errors["grant role"] = [DeniedError("no", code="AuthorizationFailed")] * 4
    topic = LossyTopic(azure, lost=1)
    for number in range(4):
        report = await run_pass(azure, now=NOW + timedelta(minutes=number))
        await save_and_notify(report, accounts=FakeAccountTable(azure), notices=topic)
    assert told(azure) == ["AccountUnhealthy", "AccountUnhealthy", "StepFailed"]
    assert len({item.id for item in azure.notices}) == 2


@dataclass
class LossyTopic(FakeTopic):
    """Takes every notice; the sender does not hear of the first ones."""

    lost: int = 0

    async def publish(self, notice: OutgoingNotice) -> None:
        await super().publish(notice)
        if self.lost:
            self.lost -= 1
            raise UnavailableError("the answer was lost")


async def test_nothing_is_told_when_azure_only_pauses() -> None:
    azure = world()
    await passes(azure)
    azure.errors["list roles"] = [UnavailableError("no")]
    azure.errors["read account"] = []
    await passes(azure)
    azure.errors["read account"] = [UnavailableError("no")]
    await passes(azure)
    await passes(azure)
    assert told(azure) == ["AccountHealthy"]


async def test_failed_step_is_told_once() -> None:
    azure = world()
    azure.errors["grant role"] = [DeniedError("no", code="AuthorizationFailed") for _ in range(3)]
    await passes(azure, 3)
    assert told(azure) == ["AccountUnhealthy", "StepFailed"]


async def test_account_that_may_no_longer_be_read_is_told_as_unhealthy() -> None:
    azure = world()
    await passes(azure)
    azure.errors["read account"] = [DeniedError("no")]
    await passes(azure)
    assert told(azure) == ["AccountHealthy", "AccountUnhealthy"]


@pytest.mark.parametrize("tag", ["off", "bogus"])
async def test_nothing_is_told_about_accounts_that_are_left_alone(tag: str) -> None:
    azure = world(account(tags={"wandb-integration": tag}))
    await passes(azure, 2)
    assert told(azure) == []


async def test_notice_is_sent_by_the_next_pass_when_the_topic_was_away() -> None:
    azure = world()
    azure.errors["publish"] = [UnavailableError("no")]
    await passes(azure)
    assert azure.entries
    assert told(azure) == []
    await passes(azure)
    assert told(azure) == ["AccountHealthy"]


async def test_same_id_is_given_when_a_pass_is_repeated_before_it_was_stored() -> None:
    azure = world()
    report = await run_pass(azure)
    for _ in range(2):
        azure.entries.clear()
        await save_and_notify(report, accounts=FakeAccountTable(azure), notices=FakeTopic(azure))
    assert len(azure.notices) == 2
    assert len({item.id for item in azure.notices}) == 1


async def test_refused_and_accepted_keys_are_told_once_and_without_values() -> None:
    azure = world()
    azure.secrets[PLACE].append(version("v2", REVOKED))
    for _ in range(2):
        report = await prove_newest(
            PLACE,
            ports=azure.ports(),
            settings=settings(),
            now=NOW,
            trigger="a test",
        )
        await notify_key(report, now=NOW, keys=FakeKeyTable(azure), notices=FakeTopic(azure))
    azure.secrets[PLACE].append(version("v3", GOOD))
    report = await prove_newest(
        PLACE, ports=azure.ports(), settings=settings(), now=NOW, trigger="x"
    )
    await notify_key(report, now=NOW, keys=FakeKeyTable(azure), notices=FakeTopic(azure))
    assert told(azure) == ["KeyRefused", "KeyAccepted"]
    said = repr(azure.notices)
    assert GOOD not in said
    assert REVOKED not in said


async def look(azure: World, now: datetime = NOW) -> KeyReport:
    return await prove_newest(
        PLACE, ports=azure.ports(), settings=settings(), now=now, trigger="a test"
    )


async def test_lost_topic_does_not_fail_a_key_look() -> None:
    azure = world()
    azure.errors["publish"] = [UnavailableError("no")]
    report = await prove_newest(
        PLACE, ports=azure.ports(), settings=settings(), now=NOW, trigger="x"
    )
    await notify_key(report, now=NOW, keys=FakeKeyTable(azure), notices=FakeTopic(azure))
    assert azure.notices == []


async def test_key_news_is_told_by_a_later_look_when_the_topic_was_away() -> None:
    azure = world()
    azure.errors["publish"] = [UnavailableError("no")]
    for _ in range(3):
        report = await look(azure)
        await notify_key(report, now=NOW, keys=FakeKeyTable(azure), notices=FakeTopic(azure))
    assert told(azure) == ["KeyAccepted"]


async def test_what_a_pass_over_an_account_found_is_told_by_the_next_look_at_the_key() -> None:
    azure = world()
    await run_pass(azure)
    assert is_untold(azure.records[PLACE])
    report = await look(azure)
    assert len(azure.changes) == 1
    await notify_key(report, now=NOW, keys=FakeKeyTable(azure), notices=FakeTopic(azure))
    assert told(azure) == ["KeyAccepted"]
    assert not is_untold(azure.records[PLACE])


async def test_refused_key_in_use_is_told_beside_a_bad_newer_version() -> None:
    azure = world()
    azure.owners[BETTER] = azure.owners[GOOD]
    steps = (
        lambda: None,
        lambda: azure.secrets[PLACE].append(version("v2", REVOKED)),
        lambda: azure.owners.pop(GOOD),
        lambda: azure.secrets[PLACE].append(version("v3", BETTER)),
    )
    for step in steps:
        step()
        for _ in range(2):
            report = await look(azure)
            await notify_key(report, now=NOW, keys=FakeKeyTable(azure), notices=FakeTopic(azure))
    assert told(azure) == ["KeyAccepted", "KeyRefused", "KeyRefused", "KeyAccepted"]
    assert len({item.id for item in azure.notices}) == 4


async def test_near_end_is_told_once_at_each_threshold() -> None:
    azure = world()
    azure.secrets[PLACE] = [version("v1", expires=NOW + timedelta(days=40))]
    for days in (0, 5, 11, 12, 34, 35, 39.5, 39.6, 41, 42):
        moment = NOW + timedelta(days=days)
        report = await look(azure, moment)
        await notify_key(report, now=moment, keys=FakeKeyTable(azure), notices=FakeTopic(azure))
    assert told(azure) == ["KeyAccepted", *["KeyExpiring"] * 3, "KeyRefused"]
    causes = [[item["cause"] for item in notice.data["findings"]] for notice in azure.notices]
    assert causes[1:4] == [["secret_expires_soon"]] * 3
    within = [notice.data["findings"][0]["evidence"]["within"] for notice in azure.notices[1:4]]
    assert within == ["30 days", "7 days", "1 days"]
    assert causes[4] == ["secret_expired"]


async def test_key_without_an_expiry_date_is_told_once_and_keeps_the_account_healthy() -> None:
    azure = world()
    azure.secrets[PLACE] = [version("v1", expires=None)]
    for days in range(3):
        moment = NOW + timedelta(days=days)
        report = await look(azure, moment)
        await notify_key(report, now=moment, keys=FakeKeyTable(azure), notices=FakeTopic(azure))
    assert told(azure) == ["KeyAccepted", "KeyExpiring"]
    assert [item["cause"] for item in azure.notices[1].data["findings"]] == ["secret_no_expiry"]
    assert (await run_pass(azure)).healthy


async def test_new_key_that_ends_soon_is_told_as_accepted_and_as_ending() -> None:
    azure = world()
    azure.secrets[PLACE] = [version("v1", expires=NOW + timedelta(days=20))]
    report = await look(azure)
    await notify_key(report, now=NOW, keys=FakeKeyTable(azure), notices=FakeTopic(azure))
    assert told(azure) == ["KeyAccepted", "KeyExpiring"]
