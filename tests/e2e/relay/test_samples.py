"""Every published sample, whole and damaged: nothing raises out of a job, nothing is lost.

Each damage is one rule applied at one place of a sample, or at all of them. What the run must
hold afterwards is worked out in dev/tools/demo/values.py, which shares no code with the relay.
"""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dev.tools.demo.values import compare, published
from tests.e2e.relay.sample_bench import Bench
from tests.e2e.relay.samples import DAMAGES, FILES, SAMPLES, Case, cases, damaged
from tests.e2e.relay.stage import START, Stage, job, metric, values

needs_samples = pytest.mark.skipif(not FILES, reason="the samples lie beside the repository")


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
        if path.suffix != ".txt"  # hundreds of sentences of one shape
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
