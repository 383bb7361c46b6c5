"""Published samples whose bytes end too early, through the decoders that really read them.

What cannot be known for whole is asked for again and spoils nothing else; what is whole is used.
"""

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio
import stamina

from dev.tools.demo.values import compare, published
from finetune_wandb.clients.azure.jobs import Jobs
from finetune_wandb.clients.http import Answer
from finetune_wandb.clients.transport import Transport
from finetune_wandb.model.errors import UnavailableError
from finetune_wandb.model.relay.cursor import Cursor, RunPath
from finetune_wandb.model.relay.job import parse_job
from finetune_wandb.relay.artifacts import ArtifactLog, ArtifactOutcome, read_copy
from finetune_wandb.relay.data_set import table_rows
from finetune_wandb.relay.passes.account_pass import relay_account
from finetune_wandb.relay.passes.job_pass import JobOutcome
from finetune_wandb.relay.ports import RelayOptions, RelayPorts
from tests import fakes
from tests.e2e.relay.cutting import MODES, CuttingApi, cutting_api
from tests.e2e.relay.stage import START, job, metric

SAMPLES = Path(__file__).parents[4] / "shared" / "samples"
JSON_FILES = sorted(SAMPLES.glob("[0-9]*.json"))
DATA_SETS = sorted((SAMPLES / "29_dataset_first_lines").glob("*.jsonl"))
needs_samples = pytest.mark.skipif(not JSON_FILES, reason="the samples lie beside the repository")
RUN = "team/proj/ftjob-cut"


def places(size: int, count: int = 60) -> list[int]:
    """Return where to cut so many bytes: near both ends, and evenly between them."""
    near = [*range(6), *range(size - 6, size)]
    return sorted(
        {place for place in (*near, *range(0, size, max(size // count, 1))) if place >= 0}
    )


@needs_samples
@pytest.mark.parametrize("path", JSON_FILES, ids=lambda path: path.stem)
def test_answer_is_whole_or_a_temporary_error_when_it_is_cut_anywhere(path: Path) -> None:
    content = path.read_bytes()
    whole = orjson.loads(content)
    for end in places(len(content), 400):
        try:
            found = Answer(200, {}, content[:end]).json()
        except UnavailableError:
            continue
        # Nothing but blanks was cut off.
        assert found == whole
        assert not content[end:].strip()


@needs_samples
@pytest.mark.parametrize("path", DATA_SETS, ids=lambda path: path.stem)
async def test_rows_before_the_cut_are_shown_when_a_data_set_is_cut_anywhere(path: Path) -> None:
    content = _content(path)
    whole = list(table_rows(content.decode().splitlines(keepends=True)))
    assert len(whole) > 0
    for end in places(len(content), 200):
        text = content[:end].decode("utf-8", "replace")
        rows = list(table_rows(text.splitlines(keepends=True)))
        complete = content[:end].count(b"\n")
        assert rows[:complete] == whole[:complete]
        assert len(rows) <= complete + 1

        async def pieces(data: bytes = content[:end]) -> AsyncIterator[bytes]:
            yield data

        assert (await read_copy(pieces(), None)).size == end


def _content(path: Path) -> bytes:
    return path.read_bytes()


# Through the client


@dataclass
class World:
    """A job whose answers are cut, and one beside it in the same message."""

    api: CuttingApi
    transport: Transport
    now: float = START + 100
    sink: fakes.FakeSink = field(default_factory=fakes.FakeSink)
    cursors: fakes.FakeCursors = field(default_factory=fakes.FakeCursors)
    account: Any = field(default_factory=fakes.relay_account)

    def __post_init__(self) -> None:
        self.jobs = Jobs(self.transport, "https://cognitiveservices.azure.com/.default")
        self.ports = RelayPorts(
            self.jobs, self.cursors, self.sink, fakes.FakeKeys(), new_id=fakes.short_id
        )

    def serve(self, name: str, events: list[Any], checkpoints: list[Any], csv: bytes = b"") -> None:
        for part, items in (("events", events), ("checkpoints", checkpoints)):
            body = {"object": "list", "data": items, "has_more": False}
            self.api.bodies[f"{name}/{part}"] = json.dumps(body).encode()
        if csv:
            self.api.bodies[f"file-{name}/content"] = csv

    async def tick(self) -> dict[str, JobOutcome]:
        listed = [
            job(name, "succeeded", finished_at=int(START) + 90, result_files=[f"file-{name}"])
            for name in ("ftjob-cut", "ftjob-good")
        ]
        found = await relay_account(
            self.account,
            [one for raw in listed if (one := parse_job(raw))],
            ports=self.ports,
            clock=lambda: self.now,
            options=RelayOptions(),
        )
        self.now += 60
        return {outcome.job: outcome for outcome in found}

    async def finish(self) -> dict[str, JobOutcome]:
        for _ in range(20):
            outcomes = await self.tick()
            if {one.relay_state for one in outcomes.values()} == {"complete"}:
                return outcomes
        raise AssertionError(outcomes)


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    # The client's retries stay, their pauses go.
    with stamina.set_testing(True, attempts=4):
        async with cutting_api() as api:
            transport = Transport(api.url)
            yield World(api, transport)
            await transport.close()


def _samples() -> tuple[list[Any], list[Any], bytes]:
    events = json.loads((SAMPLES / "08_azure_tutorial_events_page.json").read_text())["data"]
    checkpoints = json.loads((SAMPLES / "09_azure_tutorial_checkpoints.json").read_text())["data"]
    return events, checkpoints, (SAMPLES / "27_openai_docs_results_head.csv").read_bytes()


def _cuts(size: int) -> Iterator[tuple[int, str]]:
    for mode in MODES:
        for place in (0, 1, size // 2, size - 2):
            yield place, mode


@needs_samples
@pytest.mark.parametrize("what", ["events", "checkpoints"])
async def test_listing_is_asked_for_again_when_its_answer_is_cut(world: World, what: str) -> None:
    events, checkpoints, csv = _samples()
    world.serve("ftjob-cut", events, checkpoints, csv)
    place = f"ftjob-cut/{what}"
    for number, cut in enumerate(_cuts(len(world.api.bodies[place]))):
        world.api.cuts[place] = cut
        world.serve("ftjob-good", [metric(step) for step in range(number + 1)], [])
        outcomes = await world.tick()
        broken = outcomes["ftjob-cut"]
        assert broken.temporary, (cut, broken)
        assert "unexpected" not in broken.error, (cut, broken)
        assert outcomes["ftjob-good"].error == "", cut
    assert RUN not in world.sink.runs
    world.api.cuts.clear()
    await world.finish()
    found = compare(published(events, checkpoints, csv), world.sink.runs[RUN].history)
    assert found.exact, found
    assert world.sink.runs[RUN].state == "finished"


@needs_samples
@pytest.mark.parametrize("mode", MODES)
async def test_whole_lines_are_relayed_when_a_result_file_is_cut(world: World, mode: str) -> None:
    events, checkpoints, csv = _samples()
    world.serve("ftjob-good", [metric(1)], [])
    for place in (0, 3, len(csv) // 2, csv.index(b"\n", len(csv) // 2) + 1, len(csv) - 2):
        world.sink.runs.clear()
        world.cursors.stored.clear()
        world.serve("ftjob-cut", events, checkpoints, csv)
        world.api.cuts["file-ftjob-cut/content"] = (place, mode)
        for _ in range(5):
            outcomes = await world.tick()
        assert outcomes["ftjob-good"].error == ""
        broken = outcomes["ftjob-cut"]
        assert broken.relay_state == "ending", (place, broken)
        run = world.sink.runs[RUN]
        assert run.state == "finished"
        ends_a_line = csv[:place].endswith(b"\n")
        if mode == "matching" or (mode == "close" and ends_a_line):
            # An answer that says it is whole is taken at its word.
            assert broken.error == ""
        else:
            assert broken.temporary
            assert "file-ftjob-cut could not be read to its end" in broken.error
            # No half number is relayed: it would be another number. Which of the whole lines the
            # HTTP library still hands over depends on when the connection broke.
            lines = csv[:place].rpartition(b"\n")[0] + b"\n"
            least = compare(published(events, checkpoints), run.history)
            most = compare(published(events, checkpoints, lines), run.history)
            assert (least.missing, most.unexpected, most.duplicate) == ([], [], []), place
            world.api.cuts.clear()
            await world.finish()
            found = compare(published(events, checkpoints, csv), run.history)
            assert found.exact, (place, found)


async def test_items_that_are_no_objects_are_counted_when_a_list_holds_some(world: World) -> None:
    odd = [None, 5, "text", []]
    good = {"step_number": 2, "metrics": {"step": 2, "full_valid_loss": 0.5}}
    world.serve("ftjob-cut", [*odd, metric(1)], [*odd[:3], good])
    world.serve("ftjob-good", [metric(1)], [])
    await world.finish()
    notes = world.cursors.stored[world.account.key, "ftjob-cut"].notes
    assert "4 events had neither metrics nor a message" in notes
    assert "3 checkpoints had no step or no metrics" in notes
    assert [row["step"] for row in world.sink.runs[RUN].history] == [1, 2]


@needs_samples
async def test_artifacts_wait_when_an_answer_about_a_file_is_cut(world: World) -> None:
    events, checkpoints, csv = _samples()
    world.serve("ftjob-cut", events, checkpoints, csv)
    raw = json.loads((SAMPLES / "10_azure_vision_chartqa_succeeded.json").read_text())
    data_set = (SAMPLES / "29_dataset_first_lines" / "sft_chat.jsonl").read_bytes()
    raw |= {"id": "ftjob-cut", "training_file": "file-t", "validation_file": None}
    raw["result_files"] = ["file-ftjob-cut"]
    world.api.bodies |= {
        "jobs/ftjob-cut": json.dumps(raw).encode(),
        "files/file-t": b'{"id": "file-t", "filename": "train.jsonl", "bytes": 5}',
        "file-t/content": data_set,
        "files/file-ftjob-cut": b'{"id": "file-r", "filename": "results.csv", "bytes": 5}',
    }

    run = RunPath("team", "proj", "ftjob-cut")

    async def log() -> tuple[ArtifactOutcome, fakes.FakeArtifacts]:
        cursors, artifacts = fakes.FakeCursors(), fakes.FakeArtifacts()
        await cursors.save([Cursor(world.account.key, "ftjob-cut", run=run, state={"ended": True})])
        ports = RelayPorts(world.jobs, cursors, world.sink, fakes.FakeKeys(), new_id=fakes.short_id)
        work = ArtifactLog(ports, artifacts, with_content=True)
        (outcome,) = await work.log(world.account, ["ftjob-cut"], budget_s=60)
        return outcome, artifacts

    outcome, whole = await log()
    assert outcome.error == ""
    assert {"dataset-file-t", "results-ftjob-cut"} <= {name for _, name, _ in whole.logged}
    for place, body in world.api.bodies.items():
        if place.endswith("/events"):
            continue
        for at, mode in _cuts(len(body)):
            is_content = place.endswith("/content")
            if is_content and (mode == "matching" or (mode == "close" and not at)):
                continue  # as whole as any file
            world.api.cuts = {place: (at, mode)}
            outcome, _ = await log()
            assert outcome.again, (place, at, mode)
    world.api.cuts.clear()
    outcome, again = await log()
    assert (outcome.error, again.versions) == ("", whole.versions)
