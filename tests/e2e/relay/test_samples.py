"""Every published sample, whole and damaged: nothing raises out of a job, nothing is lost.

Each damage is one rule applied at one place of a sample, or at all of them. What the run must
hold afterwards is worked out in tools/demo/values.py, which shares no code with the relay.
"""

import copy
import csv
import io
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from clients.http import Answer
from relay.options import RelayOptions
from relay.ports import RelayPorts
from relay.run import relay_account
from tests import fakes
from tests.e2e.relay.stage import START, Stage, job, metric, values
from tools.demo.compare import compare
from tools.demo.values import published, step_of

SAMPLES = Path(__file__).parents[4] / "shared" / "samples"
FILES = sorted(path for path in SAMPLES.glob("[0-9]*.*") if path.is_file())
needs_samples = pytest.mark.skipif(not FILES, reason="the samples lie beside the repository")
Json = dict[str, Any]
_MOST = 2**53
"""Beyond it the expectation's own arithmetic is not exact."""


@dataclass
class Case:
    """What the fine-tuning API answers for one job."""

    job: Json
    events: list[Any] = field(default_factory=list)
    checkpoints: list[Any] = field(default_factory=list)
    csv: str = ""
    published_csv: str = ""
    """The result file, where the job still names one."""


def cases(path: Path) -> list[Case]:
    """Return the jobs in a sample; events and checkpoints go to its first one."""
    if path.suffix == ".csv":
        return [Case(job(status="succeeded", result_files=["file-result"]), csv=path.read_text())]
    found = json.loads(path.read_text())
    jobs: list[Json] = []
    events: list[Any] = []
    checkpoints: list[Any] = []
    for item in _objects(found):
        if "step_number" in item:
            checkpoints.append(item)
        elif "message" in item and "created_at" in item:
            events.append(item)
        elif "status" in item and "id" in item:
            jobs.append(item)
    made = [Case(one) for one in jobs] or [Case(job())]
    made[0].events, made[0].checkpoints = events, checkpoints
    return made


def _objects(found: Any) -> Iterator[Json]:
    if isinstance(found, dict):
        yield found
    for inner in found.values() if isinstance(found, dict) else found:
        if isinstance(inner, (dict, list)):
            yield from _objects(inner)


# Damages

Damage = Callable[[Any], Any]
"""Takes a leaf and returns what stands in its place."""


def _numbers_only(change: Callable[[Any], Any]) -> Damage:
    def damage(leaf: Any) -> Any:
        is_number = isinstance(leaf, (int, float)) and not isinstance(leaf, bool)
        return change(leaf) if is_number else leaf

    return damage


DAMAGES: dict[str, Damage] = {
    "null": lambda leaf: None,
    "text": lambda leaf: "no number",
    "list": lambda leaf: [leaf],
    "object": lambda leaf: {"inner": leaf},
    "true": lambda leaf: True,
    "long": lambda leaf: leaf * 2000 if isinstance(leaf, str) else leaf,
    "unicode": lambda leaf: f"{leaf} Ωß中文🙂\x00\ud800\n" if isinstance(leaf, str) else leaf,
    "number-as-text": _numbers_only(str),
    "number-as-float": _numbers_only(float),
    "64-bit": _numbers_only(lambda leaf: 2**62),
    "beyond-64-bit": _numbers_only(lambda leaf: 10**400),
    "huge": _numbers_only(lambda leaf: 1.5e308),
    "infinite": _numbers_only(lambda leaf: math.inf),
    "nan": _numbers_only(lambda leaf: math.nan),
    "negative": _numbers_only(lambda leaf: -leaf),
    "minus-one": _numbers_only(lambda leaf: -1),
}


def _places(found: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key, inner in found.items() if isinstance(found, dict) else enumerate(found):
        if isinstance(inner, (dict, list)) and inner:
            yield from _places(inner, (*where, key))
        yield (*where, key)


def _damaged(found: Any, place: tuple[Any, ...], damage: Damage) -> Any:
    found = copy.deepcopy(found)
    inner = found
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = damage(inner[place[-1]])
    return found


def _all_damaged(found: Any, damage: Damage) -> Any:
    if isinstance(found, dict):
        return {
            # The names themselves and the job's identity stay: without them there is no job.
            name: inner if name in ("id", "status") else _all_damaged(inner, damage)
            for name, inner in found.items()
        }
    if isinstance(found, list):
        return [_all_damaged(inner, damage) for inner in found]
    return damage(found)


def damaged(case: Case, damage: Damage, every: int) -> Iterator[Case]:
    """Yield the case with the damage everywhere, and with it at every so many places alone."""
    yield Case(
        _all_damaged(case.job, damage),
        _all_damaged(case.events, damage),
        _all_damaged(case.checkpoints, damage),
        case.csv,
    )
    whole = {"job": case.job, "events": case.events, "checkpoints": case.checkpoints}
    for place in list(_places(whole))[::every]:
        if len(place) < 2 or place == ("job", "id"):
            continue
        one = _damaged(whole, place, damage)
        yield Case(one["job"], one["events"], one["checkpoints"], case.csv)


# Relaying


class Bench:
    """One account that holds many jobs."""

    def __init__(self) -> None:
        self.jobs, self.sink, self.cursors = fakes.FakeJobs(), fakes.FakeSink(), fakes.FakeCursors()
        self.account = fakes.relay_account()
        self.now = START + 100

    async def run(self, made: list[Case]) -> None:
        """Relay the jobs as they are, then as succeeded, until nothing is left to do."""
        for number, case in enumerate(made):
            case.job = {**_over_the_wire(case.job), "id": f"ftjob-{number}"}
            case.events = _over_the_wire(case.events)
            case.checkpoints = _over_the_wire(case.checkpoints)
            files = case.job.get("result_files")
            if case.csv and isinstance(files, list) and files and isinstance(files[0], str):
                files[:] = [f"file-{number}"]
                case.published_csv = case.csv
                self.jobs.files[f"file-{number}"] = case.csv.encode()
            # The client hands on objects only.
            self.jobs.put(
                case.job, events=_objects_in(case.events), checkpoints=_objects_in(case.checkpoints)
            )
        await self.tick(made)
        for case in made:
            case.job = {**case.job, "status": "succeeded"}
            self.jobs.jobs[case.job["id"]].body = case.job
        for _ in range(8):
            self.now += 70
            await self.tick(made)

    async def tick(self, made: list[Case]) -> None:
        from model.job_object import parse_job, reduce_job

        jobs = [parse_job(reduce_job(case.job)) for case in made]
        outcomes = await relay_account(
            self.account,
            [one for one in jobs if one is not None],
            ports=RelayPorts(self.jobs, self.cursors, self.sink, fakes.FakeKeys()),
            clock=lambda: self.now,
            options=RelayOptions(skip_native=False),
        )
        for outcome in outcomes:
            assert not outcome.error or outcome.relay_state == "parked", outcome
            assert "unexpected" not in outcome.error, outcome

    def check(self, case: Case) -> None:
        """Hold the run against what was published."""
        cursor = self.cursors.stored[self.account.key, case.job["id"]]
        if cursor.relay_state == "parked":
            # Only a project or entity that W&B has no room for sets a job aside.
            assert "must be 1-128 characters" in cursor.error, cursor
            return
        assert cursor.relay_state == "complete", cursor
        run = self.sink.runs[str(cursor.run)]
        assert run.state == "finished"
        expected = published(
            _objects_in(case.events),
            [_with_step(one) for one in _objects_in(case.checkpoints)],
            case.published_csv.encode(),
        )
        # A step that is an object of its own is no metric; neither has W&B room for larger ones.
        expected = {
            (step, name): held
            for (step, name), held in expected.items()
            if step < _MOST and not name.startswith("step/")
        }
        found = compare(expected, [row for row in run.history if row["step"] < _MOST])
        assert (found.missing, found.duplicate, found.unexpected) == ([], [], []), case


def _over_the_wire(found: Any) -> Any:
    """Return what the client makes of this as an answer."""
    return Answer(200, {}, json.dumps(found).encode()).json()


def _with_step(checkpoint: Json) -> Json:
    """Return the checkpoint with the step that its metrics name, where it names none itself."""
    metrics, step = checkpoint.get("metrics"), step_of(checkpoint.get("step_number"))
    if (step is not None and step < 2**63) or not isinstance(metrics, dict):
        return checkpoint
    return {**checkpoint, "step_number": metrics.get("step")}


def _objects_in(items: list[Any]) -> list[Json]:
    return [item for item in items if isinstance(item, dict)]


@needs_samples
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
async def test_sample_is_relayed_when_it_is_whole(path: Path) -> None:
    bench, made = Bench(), cases(path)
    await bench.run(made)
    for case in made:
        bench.check(case)


@needs_samples
@pytest.mark.parametrize("name", DAMAGES)
async def test_nothing_raises_when_a_sample_is_damaged(name: str) -> None:
    made = [
        broken
        for path in FILES
        for case in cases(path)
        for broken in damaged(case, DAMAGES[name], every=9)
    ]
    assert len(made) > 100
    bench = Bench()
    await bench.run(made)
    for case in made:
        bench.check(case)


@needs_samples
@pytest.mark.parametrize("order", ["reversed", "doubled"])
async def test_sample_is_relayed_when_its_lists_are_in_disorder(order: str) -> None:
    made = [case for path in FILES for case in cases(path)]
    for case in made:
        for items in (case.events, case.checkpoints):
            items[:] = items[::-1] if order == "reversed" else [*items, *items]
    bench = Bench()
    await bench.run(made)
    for case in made:
        bench.check(case)


CSV = SAMPLES / "27_openai_docs_results_head.csv"
LONG = "step,train_loss,valid_loss,note\n" + "".join(
    f'{n},{1 / n},{-1 if n % 3 else 0.5},"a, ""quoted"" word"\n' for n in range(1, 40)
)
FORMS: dict[str, Callable[[str], str]] = {
    "bom": lambda text: "\ufeff" + text,
    "crlf": lambda text: text.replace("\n", "\r\n"),
    "quoted": lambda text: "\n".join(
        ",".join(f'"{cell}"' for cell in line.split(",")) for line in text.splitlines()
    ),
    "trailing-columns": lambda text: text.replace("\n", ",,\n"),
    "gaps": lambda text: text.replace("\n", "\n\n,,\n"),
    "no-last-line-end": lambda text: text.rstrip("\n"),
    "other-column": lambda text: text.replace("\n", ",node-7\n").replace("node-7", "host", 1),
}


@pytest.mark.parametrize("form", FORMS)
async def test_result_file_is_relayed_when_its_form_varies(form: str) -> None:
    text = "step,train_loss,valid_loss\n1,0.5,\n2,0.25,0.75\n3,0.125,-1\n"
    made = [Case(job(status="succeeded", result_files=["f"]), csv=FORMS[form](text))]
    bench = Bench()
    await bench.run(made)
    bench.check(made[0])
    (run,) = bench.sink.runs.values()
    assert [row["train_loss"] for row in run.history] == [0.5, 0.25, 0.125]


@pytest.mark.parametrize("cut", range(0, len(LONG), 97))
async def test_result_file_is_relayed_as_far_as_it_goes_when_it_is_truncated(cut: int) -> None:
    made = [Case(job(status="succeeded", result_files=["f"]), csv=LONG[:cut])]
    bench = Bench()
    await bench.run(made)
    (cursor,) = bench.cursors.stored.values()
    assert cursor.relay_state == "complete"
    (run,) = bench.sink.runs.values()
    rows = list(csv.reader(io.StringIO(LONG)))[1:]
    held = {row["step"]: row["train_loss"] for row in run.history if "train_loss" in row}
    # The last number of a file that was cut short is what stands there.
    whole = {int(step): float(loss) for step, loss, *_ in rows}
    assert {step: held[step] for step in held if step < max(held)} == {
        step: whole[step] for step in held if step < max(held)
    }


async def test_no_header_is_named_when_a_result_file_has_none() -> None:
    made = [Case(job(status="succeeded", result_files=["f"]), csv="1,0.5\n2,0.25\n")]
    bench = Bench()
    await bench.run(made)
    (cursor,) = bench.cursors.stored.values()
    assert any("no step column" in note for note in cursor.notes)


# What could not be used is named


@pytest.mark.parametrize(
    ("field_name", "value"),
    [
        ("created_at", "yesterday"),
        ("trained_tokens", {}),
        ("result_files", "file-1"),
        ("hyperparameters", [1]),
        ("method", "sft"),
        ("error", "broken"),
        ("finished_at", 1e30),
    ],
)
async def test_field_is_named_in_the_notes_when_it_cannot_be_used(
    on_stage: Stage, field_name: str, value: Any
) -> None:
    await on_stage.put(job(**{field_name: value}), events=[metric(1)])
    await on_stage.tick()
    assert f"fields that could not be used: {field_name}" in on_stage.cursor("ftjob-1").notes
    assert values(on_stage.run("ftjob-1"), "train_loss") == [0.5]


async def test_events_are_counted_in_the_notes_when_they_cannot_be_used(on_stage: Stage) -> None:
    await on_stage.put(
        job(),
        events=[
            metric(1),
            {**metric(2), "data": {"step": "second", "train_loss": 0.5}},
            {**metric(3), "data": {"step": 2.5, "train_loss": 0.5}},
            {"id": "empty", "created_at": int(START)},
        ],
    )
    await on_stage.tick()
    notes = on_stage.cursor("ftjob-1").notes
    assert "1 events had neither metrics nor a message" in notes
    assert "2 events had numbers but no step to put them at" in notes


@needs_samples
@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
@pytest.mark.parametrize("what", ["jobs", "events"])
async def test_nothing_is_lost_when_an_answer_was_cut_short(
    on_stage: Stage, what: str, share: float
) -> None:
    text = (SAMPLES / "08_azure_tutorial_events_page.json").read_text()
    sample = json.loads(text)["data"]
    await on_stage.put(job(), events=sample)
    cut = text[: int(len(text) * share)]
    fault = {
        "service": "openai",
        "path_contains": "/events" if what == "events" else "fine_tuning/jobs",
        "times": 20,
        "action": {"raw_body": cut},
    }
    session = on_stage.transport.session()
    async with session.post(f"{on_stage.url}/_sandbox/faults", json=fault) as answer:
        assert answer.status < 300
    if what == "events":
        (outcome,) = (await on_stage.tick()).values()
        assert "not JSON" in outcome.error
        assert outcome.temporary
    async with session.delete(f"{on_stage.url}/_sandbox/faults"):
        pass
    await on_stage.tick(10)
    run = on_stage.run("ftjob-1")
    found = compare(published(sample), run["history"])
    assert found.exact, found
