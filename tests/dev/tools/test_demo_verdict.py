"""The demo's verdict: which values count as published, and what a run must hold of them."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from dev.tools.demo import replay
from dev.tools.demo.proof import Report, RunProof
from dev.tools.demo.values import Published, compare, published

CSV = b"step,train_loss,train_accuracy,valid_loss,note\n1,0.5,0.25,-1,x\n2,0.4,,0.75,y\n"
CSV_VALUES: Published = {
    (1, "train_loss"): {0.5},
    (1, "train_mean_token_accuracy"): {0.25},
    (2, "train_loss"): {0.4},
    (2, "valid_loss"): {0.75},
}


def event(step: Any, **data: Any) -> dict[str, Any]:
    return {"type": "metrics", "data": {"step": step, "total_steps": 9, **data}}


@pytest.mark.parametrize(
    "content",
    [CSV, base64.b64encode(CSV), b"\xef\xbb\xbf" + CSV, CSV.replace(b"\n", b"\r\n")],
    ids=["plain", "base64", "byte order mark", "CRLF"],
)
def test_result_file_gives_its_values_when_encoded_in_any_way(content: bytes) -> None:
    assert published(result_file=content) == CSV_VALUES


@pytest.mark.parametrize("content", [b"", b"<html>no, table</html>", b"epoch,loss\n1,2\n"])
def test_result_file_gives_nothing_when_it_is_no_table_of_steps(content: bytes) -> None:
    assert published(result_file=content) == {}


def test_nested_numbers_have_their_paths_when_an_event_holds_objects_and_lists() -> None:
    data = {"scores": {"graders": [{"name": "basic", "mean": 0.5}, {"mean": 2}]}, "flag": True}
    assert published([event(3, **data)]) == {
        (3, "scores/graders/basic/mean"): {0.5},
        (3, "scores/graders/1/mean"): {2.0},
    }


def test_placeholders_are_no_values_when_nothing_can_be_negative() -> None:
    data = {"valid_loss": -1, "reward_mean": -1, "train_loss": float("nan"), "name": "7"}
    assert published([event(1, **data)]) == {(1, "reward_mean"): {-1.0}}


@pytest.mark.parametrize("step", [None, "x", 1.5, -1, True])
def test_event_gives_nothing_when_its_step_is_none(step: Any) -> None:
    assert published([event(step, train_loss=1.0)]) == {}


def test_sources_are_joined_when_they_speak_of_the_same_step() -> None:
    marks = [{"step_number": 1, "metrics": {"step": 1.0, "train_loss": 0.6, "full_valid_loss": 2}}]
    found = published([event(1, train_loss=0.5)], marks)
    assert found == {(1, "train_loss"): {0.5, 0.6}, (1, "full_valid_loss"): {2.0}}


EXPECTED: Published = {(1, "loss"): {0.5}, (2, "loss"): {0.25, 0.26}}
GOOD = [{"step": 1, "loss": 0.5, "_step": 0}, {"step": 2, "loss": 0.26, "_step": 1}]


@pytest.mark.parametrize(
    ("history", "counts"),
    [
        (GOOD, {"found": 2, "missing": 0, "duplicate": 0, "unexpected": 0}),
        (GOOD[:1], {"found": 1, "missing": 1, "duplicate": 0, "unexpected": 0}),
        ([*GOOD, GOOD[0]], {"found": 2, "missing": 0, "duplicate": 1, "unexpected": 0}),
        (
            [{"step": 1, "loss": 0.4}, GOOD[1]],
            {"found": 1, "missing": 1, "duplicate": 0, "unexpected": 0},
        ),
        (
            [*GOOD, {"step": 3, "loss": 1}],
            {"found": 2, "missing": 0, "duplicate": 0, "unexpected": 1},
        ),
        ([], {"found": 0, "missing": 2, "duplicate": 0, "unexpected": 0}),
    ],
    ids=["exact", "one missing", "one doubled", "another number", "one made up", "empty"],
)
def test_comparison_tells_when_a_run_differs(
    history: list[dict[str, Any]], counts: dict[str, int]
) -> None:
    found = compare(EXPECTED, history)
    assert found.counts() == {"expected": 2, **counts}
    assert found.exact == (history == GOOD)


def proof(**changes: Any) -> RunProof:
    good = {"state": "finished", "status": "succeeded", "comparison": compare(EXPECTED, GOOD)}
    return RunProof("job", "entity/project/job", **{**good, **changes})


@pytest.mark.parametrize(
    "report",
    [
        Report(proofs=[proof()], key_version="v"),
        Report(account_healthy=True, key_version="v"),
        Report(account_healthy=True, proofs=[proof()]),
        Report(account_healthy=True, proofs=[proof(state="running")], key_version="v"),
        Report(account_healthy=True, proofs=[proof(status="failed")], key_version="v"),
        Report(
            account_healthy=True,
            proofs=[proof(comparison=compare({}, ()))],
            key_version="v",
        ),
        Report(account_healthy=True, proofs=[proof()], key_version="v", old_key_requests=1),
        Report(account_healthy=True, proofs=[proof()], key_version="v", problems=["x"]),
    ],
    ids=[
        "account not healthy",
        "nothing proved",
        "key not rotated",
        "run not finished",
        "status not relayed",
        "nothing published",
        "old key still used",
        "story broke off",
    ],
)
def test_report_is_not_ok_when_one_thing_is_wrong(report: Report) -> None:
    assert report.to_json()["ok"] is False


def test_report_says_what_the_contract_asks_when_written(tmp_path: Path) -> None:
    report = Report(account_healthy=True, proofs=[proof()], key_version="v", old_key_requests=0)
    report.write(tmp_path / "new" / "report.json")
    written = json.loads((tmp_path / "new" / "report.json").read_text())
    assert written["ok"] is True
    assert written["account"] == {"healthy": True}
    wanted = {"expected": 2, "found": 2, "missing": 0, "duplicate": 0}
    assert {name: written["values"][name] for name in wanted} == wanted


def test_job_is_played_in_azures_shapes_when_no_recording_is_there(tmp_path: Path) -> None:
    made_up = replay.load(tmp_path)
    pending, running, done = made_up.stages
    assert (pending["job"]["status"], pending["job"]["result_files"]) == ("pending", None)
    assert pending["job"]["hyperparameters"]["n_epochs"] == -1
    assert len(running["events"]) < len(done["events"])
    assert done["job"]["status"] == "succeeded"
    times = [item["created_at"] for item in done["events"]]
    assert times == sorted(times, reverse=True), "Azure lists the newest first"
    found = published(done["events"], done["checkpoints"], done["result_csv"].encode())
    assert len(found) > 100
    assert all(len(numbers) == 1 for numbers in found.values())
