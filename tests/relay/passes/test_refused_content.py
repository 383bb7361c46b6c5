"""What W&B refuses for its content is left out with a note; all else is in the run, and it ends."""

from dataclasses import dataclass, field

import pytest

from finetune_wandb.model.errors import RejectedError, UnavailableError
from finetune_wandb.model.relay.cursor import RunPath
from finetune_wandb.model.relay.ports import RunKey
from finetune_wandb.relay.passes.closing import JOB_DELETED, Closed, close_runs
from tests.fakes import FakeSink
from tests.relay.stage import JOB, T0, Stage, body, event


@dataclass
class Picky(FakeSink):
    """W&B, or a proxy in front of it, that refuses requests with a word or of a size."""

    word: bytes = b"?"
    most: int = 10_000_000
    code: str = "400"
    posted: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    async def post(self, run: RunPath, body: bytes, *, key: RunKey) -> bool:
        self.posted.append(body)
        if self.word in body or len(body) > self.most:
            raise RejectedError("W&B refuses the request", subject=str(run), code=self.code)
        return await super().post(run, body, key=key)


def _notes(stage: Stage) -> list[str]:
    return [note for note in stage.cursor.notes if "did not take" in note]


@pytest.mark.parametrize("code", ["400", "422", "413"])
async def test_run_holds_all_but_the_refused_row_and_ends_with_its_job(code: str) -> None:
    sink = Picky(word=b"bad_metric", code=code)
    stage = Stage(sink=sink)
    events = [event(n, train_loss=1 / n) for n in range(40, 0, -1)]
    events[13] = event(27, bad_metric=1.0)
    job = stage.api.put(body(), events=events)
    (outcome,) = await stage.tick()
    assert (outcome.relay_state, outcome.error) == ("live", "")
    assert len(sink.posted) < 40, "found by halves"
    assert [step for step, _, _ in stage.values()] == [*range(1, 27), *range(28, 41)]
    assert [row["_step"] for row in stage.run.history] == list(range(40)), "no hole"
    assert any("step 27" in note and "refuses" in note for note in _notes(stage))
    job.events.insert(0, event(41, train_loss=0.1))
    job.body = body("succeeded")
    stage.now += 60
    await stage.finish()
    assert len(stage.values()) == 40
    assert (stage.run.state, stage.cursor.outbox) == ("finished", b"")


async def test_nothing_is_left_out_when_requests_are_only_too_large() -> None:
    stage = Stage(sink=Picky(most=1500, code="413"))
    stage.api.put(body("succeeded"), events=[event(n, train_loss=1 / n) for n in range(60, 0, -1)])
    await stage.finish()
    assert [step for step, _, _ in stage.values()] == list(range(1, 61))
    assert (_notes(stage), stage.run.state) == ([], "finished")


async def test_nothing_is_left_out_when_everything_is_refused_for_a_time() -> None:
    sink = Picky(word=b"")
    stage = Stage(sink=sink)
    stage.api.put(body(), events=[event(n, train_loss=1 / n) for n in (3, 2, 1)])
    (outcome,) = await stage.tick()
    assert (outcome.relay_state, outcome.error) == ("parked", "W&B refuses the request")
    sink.word = b"?"
    stage.now += 61
    await stage.tick()
    assert (len(stage.values()), _notes(stage)) == (3, [])


async def test_rest_follows_with_the_next_tick_when_much_is_refused() -> None:
    stage = Stage(sink=Picky(word=b"bad_metric"))
    stage.api.put(body(), events=[event(n, bad_metric=1.0) for n in range(150, 0, -1)])
    (outcome,) = await stage.tick()
    assert (outcome.relay_state, outcome.temporary) == ("new", True)
    rows = len(stage.run.history)
    assert 0 < rows < 150
    for _ in range(4):
        stage.now += 60
        (outcome,) = await stage.tick()
    assert (outcome.relay_state, outcome.error) == ("live", "")
    assert [row["step"] for row in stage.run.history] == list(range(1, 151))


async def test_same_rows_are_at_the_same_places_when_a_pass_dies_amid_the_pieces() -> None:
    class Dies(Picky):
        left = 4

        async def post(self, run: RunPath, body: bytes, *, key: RunKey) -> bool:
            self.left -= 1
            if not self.left:
                raise UnavailableError("down")
            return await super().post(run, body, key=key)

    stage = Stage(sink=Dies(word=b"bad_metric"))
    events = [event(n, train_loss=1 / n) for n in range(9, 0, -1)]
    stage.api.put(body(), events=[event(10, bad_metric=1.0), *events])
    for _ in range(3):
        await stage.tick()
        stage.now += 60
    assert [row["step"] for row in stage.run.history] == list(range(1, 11))
    assert len(stage.values()) == 9


async def test_run_of_a_deleted_job_ends_when_a_row_is_refused() -> None:
    sink = Picky(word=b"")
    stage = Stage(sink=sink)
    stage.api.put(body(), events=[event(2, bad_metric=1.0), event(1, train_loss=1.0)])
    await stage.tick()
    sink.word = b"bad_metric"
    closed = await close_runs(stage.account, stage.ports(), JOB_DELETED, now=T0 + 200, jobs=[JOB])
    assert closed == Closed(ended=1)
    assert (stage.run.state, len(stage.values())) == ("failed", 1)
