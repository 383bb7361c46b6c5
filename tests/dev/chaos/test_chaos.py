"""A few runs of the chaos harness in every test run; `make chaos N=…` plays as many as wanted."""

import os
import secrets
from pathlib import Path

import pytest

from dev.tools.chaos.__main__ import chaos
from dev.tools.chaos.faults import KINDS, REFUSALS
from dev.tools.chaos.plan import SPAN_S, Fate, make_plan

RUNS = 12


@pytest.mark.stack
async def test_each_value_is_there_once_when_everything_fails_at_random(tmp_path: Path) -> None:
    seed = int(os.environ.get("CHAOS_SEED") or secrets.randbelow(10**8))
    print(f"CHAOS_SEED={seed}")
    totals = await chaos(RUNS, seed, RUNS, tmp_path, lease_s=3)
    assert totals.failures == [], f"CHAOS_SEED={seed}"
    assert (totals.missing, totals.doubled, totals.late) == (0, 0, 0)
    assert totals.values > 0
    assert totals.faults_hit > 0


def test_run_is_the_same_when_its_seed_is_the_same() -> None:
    assert make_plan(7, 0, 1.7e9) == make_plan(7, 0, 1.7e9)
    assert make_plan(7, 0, 1.7e9) != make_plan(8, 0, 1.7e9)


def test_no_fault_outlasts_its_run_when_plans_are_drawn() -> None:
    for seed in range(60):
        plan = make_plan(seed, 0, 1.7e9)
        begun = {item.body["name"] for item in plan.moments if item.kind == "fault"}
        ended = {item.body["name"] for item in plan.moments if item.kind == "calm"}
        assert begun == ended
        assert all(item.at <= SPAN_S for item in plan.moments if item.kind in ("fault", "calm"))


def test_every_kind_of_fault_is_drawn_at_rows_when_there_are_many_runs() -> None:
    drawn = {name for seed in range(1500) for name in make_plan(seed, 0, 1.7e9).boundaries}
    assert {f"rows: {kind}" for kind in (*KINDS, *REFUSALS["rows"])} <= drawn
    assert {f"events: {kind}" for kind in (*KINDS, *REFUSALS["fine-tuning"])} <= drawn
    assert not {"result file: no JSON", "result file: wrong JSON"} & drawn


def test_every_fate_is_drawn_when_there_are_many_runs() -> None:
    plans = [make_plan(seed, 0, 1.7e9) for seed in range(300)]
    assert {plan.fate for plan in plans} == set(Fate)
    for plan in plans:
        ends = {job.ends for job in plan.jobs}
        assert ends == {False} if plan.fate.is_final else True in ends or len(plan.jobs) == 1
        if plan.fate == Fate.JOB_DELETED:
            gone = plan.jobs[0].id
            times = {item.kind: item.at for item in plan.moments if item.body.get("id") == gone}
            assert times["job"] < times["delete job"]
            assert not plan.jobs[0].ends


def test_a_good_key_comes_first_when_keys_are_drawn() -> None:
    for seed in range(60):
        keys = [item.body for item in make_plan(seed, 0, 1.7e9).moments if item.kind == "key"]
        assert keys[0]["state"] == "active"
