"""The table of the audit over real HTTP, and the fake: order, filters, pages, its end."""

from dataclasses import replace
from datetime import timedelta

import pytest

from finetune_wandb.clients.storage.audit_table import AuditTable
from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.clients.storage.tables import Table
from finetune_wandb.model.audit import AuditEntry, AuditPort, AuditQuery
from tests.fakes import NOW, FakeAudit

ACCOUNT = "/subscriptions/S/resourceGroups/G/providers/M/accounts/O'Neill"
ENTRY = AuditEntry(
    at=NOW,
    action="grant_role",
    subject=ACCOUNT,
    outcome="begun",
    cause="role_missing",
    trigger="drift",
    by="ann@example.com",
    detail={"role": "Key Vault Secrets User"},
)


@pytest.fixture(params=["table", "fake"])
def audit(request: pytest.FixtureRequest) -> AuditPort:
    return (
        FakeAudit() if request.param == "fake" else AuditTable(request.getfixturevalue("storage"))
    )


def entry(minutes_ago: float, **changes: object) -> AuditEntry:
    return replace(ENTRY, at=NOW - timedelta(minutes=minutes_ago), **changes)  # type: ignore[arg-type]


async def test_entry_comes_back_as_written_and_is_completed_in_place(audit: AuditPort) -> None:
    assert (await audit.list(AuditQuery())).entries == ()
    await audit.write(ENTRY)
    assert (await audit.list(AuditQuery())).entries == (ENTRY,)
    done = replace(ENTRY, outcome="failed", code="AuthorizationFailed")
    await audit.write(done)
    await audit.write(done)
    assert (await audit.list(AuditQuery())).entries == (done,)


@pytest.mark.parametrize("field", ["code", "by", "cause"])
async def test_entry_is_written_however_long_a_text_of_a_service_is(
    storage: Storage, field: str
) -> None:
    audit = AuditTable(storage)
    await audit.write(ENTRY)
    long = {"keeps": "ä" * 40_000}
    await audit.write(replace(ENTRY, outcome="failed", detail=long, **{field: "x" * 40_000}))
    found = (await audit.list(AuditQuery())).entries
    assert sorted(one.outcome for one in found) == ["begun", "failed"]
    assert max(len(one.detail.get("keeps", "")) for one in found) == 2000


async def test_changes_of_a_key_are_found_without_reading_all_others(storage: Storage) -> None:
    audit = AuditTable(storage)
    changed = entry(9, action="key_changed", subject="kv/secrets/k")
    await audit.write(changed)
    for minutes in range(8):
        await audit.write(entry(minutes))
    table = Table(storage, "audit")
    assert len(await table.query("PartitionKey eq 'key_changed'")) == 1
    query = AuditQuery(action="key_changed", subject="KV/secrets/k")
    assert (await audit.list(query)).entries == (changed,)
    assert len((await audit.list(AuditQuery())).entries) == 9
    assert await audit.purge(NOW - timedelta(minutes=8)) == 1
    assert (await audit.list(query)).entries == ()


async def test_two_entries_of_one_moment_are_two(audit: AuditPort) -> None:
    await audit.write(ENTRY)
    await audit.write(replace(ENTRY, detail={"version": "v2"}))
    assert len((await audit.list(AuditQuery())).entries) == 2


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (AuditQuery(), [1, 2, 3, 4]),
        (AuditQuery(action="resync"), [2]),
        (AuditQuery(subject=ACCOUNT.upper()), [1, 3, 4]),
        (AuditQuery(subject=ACCOUNT, action="resync"), []),
        (AuditQuery(since=NOW - timedelta(minutes=2)), [1, 2]),
        (AuditQuery(until=NOW - timedelta(minutes=3)), [3, 4]),
        (
            AuditQuery(since=NOW - timedelta(minutes=3), until=NOW - timedelta(minutes=2)),
            [2, 3],
        ),
        (AuditQuery(after="' or 1 eq 1"), [1, 2, 3, 4]),
    ],
)
async def test_filters_narrow_the_list(
    audit: AuditPort, query: AuditQuery, found: list[int]
) -> None:
    for minutes in (3, 1, 4):
        await audit.write(entry(minutes))
    await audit.write(entry(2, action="resync", subject="0123"))
    page = await audit.list(query)
    assert [(NOW - one.at) // timedelta(minutes=1) for one in page.entries] == found
    assert page.next == ""


async def test_pages_follow_each_other_though_entries_are_added(audit: AuditPort) -> None:
    for minutes in range(5):
        await audit.write(entry(minutes))
    first = await audit.list(AuditQuery(limit=2))
    await audit.write(entry(-1))
    second = await audit.list(AuditQuery(limit=2, after=first.next))
    third = await audit.list(AuditQuery(limit=2, after=second.next))
    shown = [one.at for page in (first, second, third) for one in page.entries]
    assert shown == [NOW - timedelta(minutes=minutes) for minutes in range(5)]
    assert third.next == ""


async def test_purge_removes_what_is_older(audit: AuditPort) -> None:
    for minutes in range(4):
        await audit.write(entry(minutes))
    assert await audit.purge(NOW - timedelta(minutes=1)) == 2
    assert [one.at for one in (await audit.list(AuditQuery())).entries] == [
        NOW,
        NOW - timedelta(minutes=1),
    ]
