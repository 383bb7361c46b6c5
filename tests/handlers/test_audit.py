"""GET /api/audit: what its parameters ask for, and which of them is wrong."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from finetune_wandb.model.audit import AuditEntry, AuditQuery
from handlers.audit import answer, read_query
from handlers.problem_details import RequestError
from tests.handlers.stage import ACCOUNT, FakeApp


class Request:
    def __init__(self, **params: str) -> None:
        self.params = params


def test_every_parameter_reaches_the_query() -> None:
    given = {
        "action": "grant_role",
        "subject": f"{ACCOUNT}/",
        "since": "2026-01-31",
        "until": "2026-02-01T12:00:00+02:00",
        "after": "08204431599097968-f013e57c0e64",
        "limit": "7",
    }
    assert read_query(given) == AuditQuery(
        action="grant_role",
        subject=ACCOUNT,
        since=datetime(2026, 1, 31, tzinfo=UTC),
        until=datetime(2026, 2, 1, 10, tzinfo=UTC),
        after="08204431599097968-f013e57c0e64",
        limit=7,
    )
    assert read_query({}) == AuditQuery()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("since", "yesterday"),
        ("until", "2026-13-01"),
        ("limit", "0"),
        ("limit", "1001"),
        ("subject", "x" * 3000),
        ("after", "' or 1 eq 1"),
    ],
)
def test_wrong_parameter_is_named(name: str, text: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_query({name: text})
    assert (caught.value.status, caught.value.subject) == (400, name)


async def test_answer_has_the_entries_and_where_to_go_on() -> None:
    app: Any = FakeApp()
    for minute in (1, 2):
        at = datetime(2026, 1, 1, 0, minute, tzinfo=UTC)
        await app.audit.write(AuditEntry(at=at, action="resync", subject="all", outcome="done"))
    request: Any = Request(limit="1")
    shown = orjson.loads((await answer(request, app)).get_body())
    (entry,) = shown["entries"]
    assert (entry["at"], entry["action"], entry["outcome"]) == (
        "2026-01-01T00:02:00Z",
        "resync",
        "done",
    )
    assert shown["next"]
