"""Re-syncs on the dashboard: who sees how far one is, and what of it failed."""

from dataclasses import replace
from typing import Any

from finetune_wandb.model.problem import Problem
from finetune_wandb.model.resync import Resync, ResyncItem, ResyncRequest
from handlers.dashboard_resyncs import latest, running
from handlers.resync_view import view
from handlers.status_view import problem_view
from tests.handlers.stage import ACCOUNT, NOW

RESYNC = Resync(
    id="a" * 32,
    request=ResyncRequest(scope="account", account=ACCOUNT),
    requested_by="anna@example.com",
    created_at=NOW - 10,
    spread=True,
)
GOOD = ResyncItem(name="account one", account=ACCOUNT, state="done", done=1, finished_at=NOW)
BAD = ResyncItem(
    name="jobs one 1",
    account=ACCOUNT,
    state="failed",
    total=20,
    done=18,
    failed=2,
    results=[
        {"job": "ftjob-<b>", "error": "W&B refuses the key", "remedy": "store a new one"},
        {"job": "ftjob-2", "error": "its file is gone", "remedy": ""},
    ],
    finished_at=NOW,
)
LEFT = ResyncItem(name="jobs one 2", account=ACCOUNT, total=20, left=("ftjob-3",))


def shown(*items: ResyncItem, resync: Resync = RESYNC) -> dict[str, Any]:
    return view(resync, list(items), now=NOW)


def test_progress_rate_and_failures_are_shown_while_one_runs() -> None:
    page = running([shown(GOOD, BAD, LEFT)])
    assert "19 of 41 done, 2 failed, 2.1 a second, about 10 s left" in page
    assert "asked by anna@example.com" in page
    assert "ftjob-&lt;b&gt;: W&amp;B refuses the key" in page
    assert "store a new one" in page
    assert "ftjob-2: its file is gone" in page
    assert "<b>:" not in page


def test_failures_are_cut_when_there_are_too_many() -> None:
    many = replace(BAD, results=[{"job": f"j{n}", "error": "e", "remedy": "r"} for n in range(40)])
    page = running([shown(many, LEFT)])
    assert page.count(">failed<") == 12
    assert "and 28 more" in page


def test_nothing_is_shown_as_running_when_all_are_done() -> None:
    done = shown(GOOD, BAD)
    assert "hidden" in running([done])
    assert "progress" not in running([done])
    assert "19 of 21" in latest([done])
    assert "2 failed" in latest([done])


def test_every_failure_has_a_remedy_when_its_cause_brought_none() -> None:
    results = shown(BAD)["items"][0]["results"]
    assert results[0]["remedy"] == "store a new one"
    assert "docs/troubleshooting.md" in results[1]["remedy"]
    problem = problem_view(Problem(source="relay_timer", subject=ACCOUNT, cause="answered 400"))
    assert "docs/troubleshooting.md" in problem["remedy"]
