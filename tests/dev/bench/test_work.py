"""A benchmark ends with an error when its work was not all done."""

from collections import Counter
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dev.bench import (
    backfill,
    cold_start,
    cost,
    data,
    growth,
    idle_tick,
    lag,
    latency,
    live_tick,
    onboarding,
    report,
)
from dev.bench.__main__ import QUESTIONS
from dev.bench.report import WorkMissingError
from dev.bench.stage import Floor, Stage
from dev.tools.demo.cloud import PROJECT
from dev.tools.lines import Lines

STEPS = 20
Rows = list[dict[str, Any]]


def rows_of(values: Any) -> Rows:
    """Return one row a step, as a run of the app holds them."""
    rows: dict[int, dict[str, Any]] = {}
    for (step, name), numbers in sorted(values.items()):
        rows.setdefault(step, {"step": step, "_step": step})[name] = next(iter(numbers))
    return list(rows.values())


LIVE = rows_of(data.live_values(STEPS))
OVER = rows_of(data.all_values(STEPS))
SHORT = [
    pytest.param(lambda rows: rows[:-1], id="a step"),
    pytest.param(lambda rows: [*rows[:-1], rows[0]], id="a step, another doubled"),
    pytest.param(
        lambda rows: [*rows[:-1], {key: rows[-1][key] for key in ("step", "_step", "train_loss")}],
        id="a value",
    ),
    pytest.param(lambda rows: [rows[0] | {"train_loss": 0.5}, *rows[1:]], id="a wrong number"),
    pytest.param(lambda rows: [*rows, rows[-1]], id="a row twice"),
    pytest.param(lambda rows: [], id="everything"),
]
Broken = Callable[[Rows], Rows]


class Place:
    """W&B, Azure and the status as a benchmark sees them."""

    def __init__(self, runs: dict[str, dict[str, Any]], accounts: Rows = []) -> None:  # noqa: B006
        self._runs = runs
        self._accounts = accounts

    async def run(self, path: str) -> dict[str, Any] | None:
        return self._runs.get(path)

    async def shown_job(self, job: str) -> dict[str, Any] | None:
        run = self._runs.get(f"{PROJECT}/{job}")
        return {"last_step": run["history"][-1]["step"]} if run and run["history"] else None

    async def status(self) -> dict[str, Any]:
        return {"accounts": self._accounts}

    async def read_account(self, name: str) -> dict[str, Any]:
        return next(item for item in self._accounts if item["name"] == name)


def place(history: Rows, *, project: str = PROJECT, job: str = "ftjob-1", **run: Any) -> Stage:
    """Return a place with one run."""
    shown = {"state": "finished", "artifacts_logged": [1, 2, 3], **run, "history": history}
    return cast("Stage", Place({f"{project}/{job}": shown}))


async def refused(check: Callable[[Stage], Awaitable[None]], good: Stage, less: Stage) -> None:
    """Hold a check to both: it passes what is whole, and ends with an error for less."""
    await check(good)
    with pytest.raises(WorkMissingError):
        await check(less)


@pytest.mark.parametrize("broken", SHORT)
async def test_backfill_is_an_error_when_a_run_lacks_something(broken: Broken) -> None:
    def check(where: Stage) -> Awaitable[None]:
        return backfill.check_runs(where, ["ftjob-1"], STEPS)

    await refused(check, place(OVER), place(broken(OVER)))


async def test_backfill_is_an_error_when_a_run_has_no_end() -> None:
    def check(where: Stage) -> Awaitable[None]:
        return backfill.check_runs(where, ["ftjob-1"], STEPS)

    await refused(check, place(OVER), place(OVER, state="running"))
    await refused(check, place(OVER), place(OVER, job="ftjob-2"))


async def test_backfill_is_an_error_when_the_peer_did_less() -> None:
    def check(where: Stage) -> Awaitable[None]:
        return backfill.check_peer(where, ["ftjob-1"], STEPS)

    peer = "sandbox-team/peer"
    await refused(check, place(LIVE, project=peer), place(LIVE[:-1], project=peer))
    await refused(check, place(LIVE, project=peer), place(LIVE, project=peer, state="running"))


async def test_backfill_waits_when_an_artifact_is_missing() -> None:
    assert await backfill.has_artifacts(place(OVER), "ftjob-1")
    assert not await backfill.has_artifacts(place(OVER, artifacts_logged=[1, 2]), "ftjob-1")
    assert not await backfill.has_artifacts(place(OVER), "ftjob-2")


@pytest.mark.parametrize("broken", SHORT)
async def test_live_tick_is_an_error_when_a_run_lacks_something(broken: Broken) -> None:
    def check(where: Stage) -> Awaitable[None]:
        return live_tick.check_values(where, [("a", "ftjob-1")], STEPS)

    await refused(check, place(LIVE), place(broken(LIVE)))
    await refused(check, place(LIVE), place(LIVE, job="ftjob-2"))


async def test_live_tick_is_an_error_when_the_sdks_did_less() -> None:
    def check(where: Stage) -> Awaitable[None]:
        return live_tick.check_sdk(where, [("a", "ftjob-1")], STEPS)

    sdk = "sandbox-team/sdk"
    await refused(check, place(LIVE, project=sdk), place(LIVE[:-1], project=sdk))


def test_live_tick_is_an_error_when_requests_are_missing() -> None:
    expected = Counter(events=40, file_stream=40, jobs=2)
    live_tick.check_requests(expected + Counter(upsertBucket=1), expected)
    for kind in expected:
        with pytest.raises(WorkMissingError, match="requests of a tick"):
            live_tick.check_requests(expected - Counter([kind]), expected)


@pytest.mark.parametrize(
    "answer",
    [{"failed": 1, "values": 9}, {"failed": 0, "values": 8}],
    ids=["refused", "fewer rows"],
)
async def test_floor_is_an_error_when_it_did_less(answer: dict[str, int]) -> None:
    async def ask(question: object) -> dict[str, int]:
        return answer

    process = cast("Lines", SimpleNamespace(ask=ask))
    with pytest.raises(WorkMissingError):
        await Floor(process, 1).relay(9)


@pytest.mark.parametrize(("requests", "messages"), [(99, 0), (100, 1)])
def test_idle_tick_is_an_error_when_an_account_is_not_listed(requests: int, messages: int) -> None:
    idle_tick.check(100, 0, 100)
    with pytest.raises(WorkMissingError):
        idle_tick.check(requests, messages, 100)


@pytest.mark.parametrize("broken", SHORT)
async def test_growth_is_an_error_when_a_run_lacks_something(broken: Broken) -> None:
    def check(where: Stage) -> Awaitable[None]:
        return growth.check_run(where, "ftjob-1", data.live_values(STEPS))

    await refused(check, place(LIVE), place(broken(LIVE)))


async def test_growth_is_an_error_when_a_pass_did_not_reach_the_last_step() -> None:
    def check(where: Stage) -> Awaitable[None]:
        return growth.check_step(where, "ftjob-1", STEPS)

    await refused(check, place(LIVE), place(LIVE[:-1]))
    await refused(check, place(LIVE), place([]))


def test_latency_counts_as_the_live_tick_does() -> None:
    assert latency.check_values is live_tick.check_values


@pytest.mark.parametrize(("label", "right", "wrong"), [("ours", 1, 0), ("empty", 0, 1)])
async def test_cold_start_is_an_error_when_the_event_made_no_message(
    label: str, right: int, wrong: int
) -> None:
    class Queue:
        def __init__(self, messages: int) -> None:
            self.messages = messages

        async def get_queue_properties(self) -> Any:
            return SimpleNamespace(approximate_message_count=self.messages)

        async def clear_messages(self) -> None:
            self.messages = 0

    await cold_start.check_taken(cast("Any", Queue(right)), label)
    with pytest.raises(WorkMissingError, match="messages of the first event"):
        await cold_start.check_taken(cast("Any", Queue(wrong)), label)


@pytest.mark.parametrize(
    "second",
    [{"healthy": False, "tags": {"wandb-secret-name": "k"}}, {"healthy": True, "tags": {}}],
    ids=["not healthy", "without the record"],
)
async def test_onboarding_is_an_error_when_an_account_is_not_done(second: dict[str, Any]) -> None:
    def check(where: Stage) -> Awaitable[None]:
        return onboarding.check_accounts(where, {"new-000", "new-001"})

    first = {"name": "new-000", "healthy": True, "tags": {"wandb-secret-name": "k"}}
    whole = [first, first | {"name": "new-001"}]
    less = [first, {"name": "new-001", **second}]
    await refused(check, cast("Stage", Place({}, whole)), cast("Stage", Place({}, less)))


def test_onboarding_is_an_error_when_fewer_accounts_were_created() -> None:
    def put(name: str) -> dict[str, Any]:
        path = f"/subscriptions/s/resourceGroups/g/providers/p/accounts/{name}"
        return {"service": "arm", "method": "PUT", "path": path, "count": 1}

    other = {"service": "wandb", "method": "POST", "path": "/graphql", "count": 3}
    requests = [put("new-000"), put("new-001"), other]
    assert onboarding.calls_of(requests, 2).total() == 3
    for less in (requests[1:], [other]):
        with pytest.raises(WorkMissingError, match="account"):
            onboarding.calls_of(less, 2)


def watched(seen: int = STEPS) -> list[lag.Watched]:
    return [lag.Watched("a", "ftjob-live", [0.0] * STEPS, [1.0] * seen)]


class Both(Place):
    """A run of a job that trains, and one of a job that was over."""

    def __init__(self, live: Rows = LIVE, old: Rows = OVER, state: str = "finished") -> None:
        super().__init__(
            {
                f"{PROJECT}/ftjob-live": {"state": "running", "history": live},
                f"{PROJECT}/ftjob-old": {"state": state, "history": old},
            }
        )


@pytest.mark.parametrize("broken", SHORT)
async def test_lag_is_an_error_when_a_run_lacks_something(broken: Broken) -> None:
    def check(where: Stage) -> Awaitable[None]:
        return lag.check(where, ["ftjob-old"], STEPS, watched())

    good = cast("Stage", Both())
    await refused(check, good, cast("Stage", Both(live=broken(LIVE))))
    await refused(check, good, cast("Stage", Both(old=broken(OVER))))
    await refused(check, good, cast("Stage", Both(state="running")))


async def test_lag_is_an_error_when_a_step_was_not_seen() -> None:
    with pytest.raises(WorkMissingError, match="steps seen"):
        await lag.check(cast("Stage", Both()), ["ftjob-old"], STEPS, watched(STEPS - 1))


def test_cost_is_an_error_when_a_tick_sent_other_messages() -> None:
    cost.check_messages(5, 5)
    with pytest.raises(WorkMissingError, match="messages of a tick: 4 of 5"):
        cost.check_messages(4, 5)


def test_every_benchmark_is_broken_here() -> None:
    text = "".join(name for name in globals() if name.startswith("test_"))
    assert [name for name in QUESTIONS if name not in text] == []


def test_missing_work_is_named_when_it_is_an_error() -> None:
    with pytest.raises(WorkMissingError, match="accounts healthy: 3 of 4"):
        report.require("accounts healthy", 3, 4)
