"""The heart of the product: whatever happens on the way, every value is in the run once.

Random jobs, orders, pages, late and repeated events, result files; workers that die between any
two calls, two at once with requests that overtake each other; faults of API, storage and W&B.
After finitely many passes in peace the run holds exactly what was published, and has its end.
"""

import asyncio
import os
import secrets
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, seed
from hypothesis import strategies as st

from finetune_wandb.model.relay.job import parse_job
from finetune_wandb.relay.passes.account_pass import relay_account
from finetune_wandb.relay.ports import RelayOptions, RelayPorts
from tests.fakes import FakeCursors, FakeJobs, FakeKeys, FakeSink, Open, short_id
from tests.fakes import relay_account as account_named
from tests.relay.race import Race, WorkerGate
from tests.relay.scripts import LATE_TICKS, LIVE_TICKS, T0, TICK_S, Script, scripts

ACCOUNT = account_named()
_QUIET_TICKS = 40
_WORDS = ("",) * 7 + ("down", "busy", "conflict", "die", "1", "3")

plans = st.lists(st.sampled_from(_WORDS), max_size=30)
visits = st.tuples(
    st.lists(st.tuples(plans, st.integers(0, 1), st.booleans()), min_size=1, max_size=2),
    st.lists(st.integers(0, 5), max_size=40),
)
"""One tick: (plan of faults, age of the job objects, job named twice) per worker; whose turn."""


class World:
    """Azure, W&B and storage, as they are between the ticks."""

    def __init__(self, jobs: list[Script]) -> None:
        self.scripts = jobs
        self.api = FakeJobs()
        self.api.page_size = jobs[0].page_size
        self.api.chunk = 100_000
        self.cursors = FakeCursors()
        self.sink = FakeSink()
        self.tick = 0

    def clock(self) -> float:
        return float(T0 + self.tick * TICK_S)

    def show(self) -> None:
        for script in self.scripts:
            self.api.put(
                script.body(self.tick),
                events=script.shown(script.events, self.tick),
                checkpoints=script.shown(script.checkpoints, self.tick),
            )
            if script.result is not None and self.tick >= script.result_at:
                self.api.files[script.result_file] = script.result

    def worker(self, gate: Any, age: int = 0, twice: bool = False) -> Any:
        """Return one message's work, with ports that go through the worker's own gate."""
        ports = RelayPorts(
            jobs=_behind(self.api, gate),
            cursors=_behind(self.cursors, gate),
            sink=_behind(self.sink, gate),
            keys=FakeKeys(),
            new_id=short_id,
        )
        bodies = [script.body(max(self.tick - age, 0)) for script in self.scripts]
        jobs = [job for body in bodies * (1 + twice) if (job := parse_job(body))]
        return relay_account(ACCOUNT, jobs, ports=ports, clock=self.clock, options=RelayOptions())


def _behind(port: Any, gate: Any) -> Any:
    """Return a view of a port: the same world, another gate."""
    view = object.__new__(type(port))
    view.__dict__ = {**port.__dict__, "gate": gate}
    if isinstance(port, FakeCursors):
        # Versions are counted in one place.
        view = _SharedCursors(port, gate)
    return view


class _SharedCursors:
    def __init__(self, cursors: FakeCursors, gate: Any) -> None:
        self._cursors = cursors
        self._gate = gate

    async def read(self, account: str, jobs: Any) -> Any:
        await self._gate.before("read")
        return await self._cursors.read(account, jobs)

    async def seen(self, account: str, jobs: Any = None) -> Any:
        return await self._cursors.seen(account, jobs)

    async def save(self, cursors: Any) -> Any:
        await self._gate.before("save")
        before = {cursor.job: cursor.etag for cursor in cursors}
        lost = await self._cursors.save(cursors)
        fresh = {cursor.job: cursor.etag for cursor in cursors}
        for cursor in cursors:
            cursor.etag = before[cursor.job]
        await self._gate.after("save")
        for cursor in cursors:
            cursor.etag = fresh[cursor.job]
        return lost


async def play(jobs: list[Script], ticks: list[Any]) -> World:
    """Play the troubled ticks, then quiet ones until every job is complete."""
    world, race = World(jobs), Race()
    for workers, picks in ticks:
        world.show()
        for plan, age, twice in workers:
            gate = WorkerGate(iter(_bounded(plan)))
            race.start(gate, world.worker(gate, age, twice))
        await race.run(iter(picks))
        world.tick += 1
    for _ in range(_QUIET_TICKS):
        world.show()
        gate = WorkerGate(iter(()))
        last = race.start(gate, world.worker(gate))
        await race.run(iter(()))
        world.tick += 1
        if race.over and all(one.relay_state == "complete" for one in last.result()):
            return world
    pytest.fail(f"never complete: {last.result()}")


def _bounded(plan: list[str]) -> list[str]:
    """Return a plan in which a worker sleeps once at the most: no request is under way for ever."""
    first = next((place for place, word in enumerate(plan) if word.isdigit()), len(plan))
    return ["" if word.isdigit() and place > first else word for place, word in enumerate(plan)]


def check(world: World, script: Script) -> None:
    """Compare the run with what was published."""
    path = f"team/proj/{script.id}"
    run = world.sink.runs[path]
    history = run.history
    assert None not in run.slots, "a gap in the history"
    assert [row["_step"] for row in history] == list(range(len(history)))
    found: Counter[tuple[int, str]] = Counter()
    expected = script.values()
    for row in history:
        for name, value in row.items():
            if name == "step" or name in ("_step", "_timestamp", "_runtime"):
                continue
            place = (row["step"], name)
            found[place] += 1
            assert value in expected.get(place, ()), f"{place} has {value}"
    assert dict(found) == dict.fromkeys(expected, 1), "missing or doubled"
    assert run.state == ("finished" if script.status == "succeeded" else "failed")
    assert run.summary["status"] == script.status
    assert run.summary.get("_step") == (len(history) - 1 if history else None)
    assert None not in run.lines, "a gap in the output"
    words = Counter(line.split(" ", 1)[1] for line in run.output if "event " in line)
    assert set(words.values()) <= {1}, "a console line twice"
    cursor = world.cursors.stored[ACCOUNT.key, script.id]
    assert (cursor.rows, cursor.values, cursor.outbox) == (len(history), len(expected), b"")


async def play_quietly(script: Script) -> None:
    """Play every tick with one worker that nothing disturbs; compare after each of them."""
    world = World([script])
    for _ in range(LIVE_TICKS + LATE_TICKS + 1):
        world.show()
        await world.worker(Open())
        run = world.sink.runs[f"team/proj/{script.id}"]
        found = {(row["step"], name) for row in run.history for name in row}
        shown = {(step, name) for at, step, name in script.told if at <= world.tick}
        if world.tick <= script.end:
            assert shown <= found, f"late at tick {world.tick}"
        assert len(run.history) == len({row["_step"] for row in run.history})
        assert (run.state in ("finished", "failed")) == (world.tick >= script.end)
        world.tick += 1


pairs = st.integers(1, 2).flatmap(
    lambda count: st.tuples(*(scripts(f"ftjob-{number}") for number in range(count)))
)


SEED = int(os.environ.get("RELAY_SEED") or secrets.randbits(32))


@seed(SEED)
@given(jobs=pairs, ticks=st.lists(visits, max_size=LIVE_TICKS + LATE_TICKS))
def test_every_value_is_in_the_run_once_when_everything_goes_wrong(
    jobs: tuple[Script, ...], ticks: list[Any]
) -> None:
    # Shown with a failure; RELAY_SEED=… brings the same examples back.
    print(f"RELAY_SEED={SEED}")
    with asyncio.Runner() as runner:
        world = runner.run(play(list(jobs), ticks))
    for script in jobs:
        check(world, script)


@seed(SEED)
@given(script=scripts("ftjob-1"))
def test_every_value_is_in_the_run_after_the_tick_that_follows_its_publication(
    script: Script,
) -> None:
    print(f"RELAY_SEED={SEED}")
    with asyncio.Runner() as runner:
        runner.run(play_quietly(script))
