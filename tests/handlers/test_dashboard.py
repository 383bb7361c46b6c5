"""The dashboard as markup: what it asks people to do, re-syncs, charts, links."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from html import unescape
from typing import Any

import pytest

from finetune_wandb.flows.status import Situation
from finetune_wandb.model.accounts.report import AccountReport, Finding
from finetune_wandb.model.causes import as_warning, finding
from finetune_wandb.model.ids import parse_account_id
from finetune_wandb.model.relay.cursor import Cursor, RunPath
from finetune_wandb.model.resync import Resync, ResyncItem, ResyncRequest
from finetune_wandb.model.work import Problem, QueueCount
from handlers.dashboard import chart, page
from handlers.resync import view
from handlers.status import StatusQuery, problem_view
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


MARKUP = '"><script>alert(1)</script>'
ROOT = "https://wandb.example"
BLOCKED = Finding("eligible", "blocked", "mode_tag_unknown", {}, "write on, observe or off")


def account(*findings: Finding, in_scope: bool = True, healthy: bool = True) -> AccountReport:
    return AccountReport(
        id=parse_account_id(ACCOUNT),
        checked_at=datetime.fromtimestamp(NOW, UTC),
        mode="full",
        findings=findings,
        in_scope=in_scope,
        healthy=healthy,
    )


def rendered(
    *accounts: AccountReport,
    cursors: list[Cursor] | None = None,
    problems: list[Problem] | None = None,
    poison: int = 0,
    curves: dict[tuple[str, str], dict[str, Any]] | None = None,
    resyncs: list[dict[str, Any]] | None = None,
    query: StatusQuery | None = None,
) -> str:
    situation = Situation(
        accounts=list(accounts),
        cursors=cursors or [],
        keys=[],
        problems=problems or [],
        queues=[QueueCount(name="relay-jobs", waiting=0, poison=poison)],
    )
    return page(
        situation,
        query or StatusQuery(),
        curves=curves or {},
        resyncs=resyncs or [],
        run_root=ROOT,
        now=NOW,
        user="",
    )


def part(html: str, name: str) -> str:
    """Return one section's markup."""
    found = re.search(rf'<section id="{name}".*?</section>', html, re.DOTALL)
    assert found
    return found[0]


def verdict(html: str) -> str:
    found = re.search(r'class="verdict[^>]*>(.*?)</p>', html, re.DOTALL)
    assert found
    return unescape(found[1])


def test_no_action_is_required_when_all_is_healthy() -> None:
    html = rendered(account(finding("eligible")))
    assert verdict(html) == "1 account, no action required"
    assert "hidden" in part(html, "needs")


def test_account_is_counted_when_a_blocked_check_keeps_it_out_of_scope() -> None:
    html = rendered(account(BLOCKED, in_scope=False, healthy=False))
    assert verdict(html) == "Action required: 1 of 1 account"
    assert "aoai-one" in part(html, "needs")
    assert "action required</span>" in part(html, "accounts")


def test_only_accounts_that_need_action_are_shown_when_filtered() -> None:
    query = StatusQuery(unhealthy=True)
    hidden = account(BLOCKED, in_scope=False, healthy=False)
    assert [query.takes_account(one) for one in (hidden, account())] == [True, False]


def test_cause_is_listed_when_an_unhealthy_account_has_only_warnings() -> None:
    milder = as_warning(BLOCKED)
    html = rendered(account(milder, healthy=False))
    assert verdict(html) == "Action required: 1 of 1 account"
    assert unescape(part(html, "needs")).count(milder.remedy) == 1


def test_verdict_counts_everything_when_more_is_wrong() -> None:
    cursors = [Cursor(account=ACCOUNT.lower(), job="ftjob-1", relay_state="parked", error="gone")]
    problems = [Problem(source="account_event", subject="an event", cause="not JSON")]
    html = rendered(account(), cursors=cursors, problems=problems, poison=2)
    assert verdict(html) == "Action required: 1 job, 1 other problem, 2 dead-lettered messages"
    for said in ("gone", "ftjob-1", "not JSON", "account_event: an event", "2 messages failed"):
        assert said in part(html, "needs")


def test_links_say_where_they_lead_when_a_job_has_a_run() -> None:
    cursor = Cursor(
        account=ACCOUNT.lower(), job="ftjob-1", run=RunPath("team", "my project", "ftjob-1")
    )
    jobs = part(rendered(account(), cursors=[cursor]), "jobs")
    assert re.findall(r'<a href="([^"]*)"[^>]*>([^<]*)</a>', jobs) == [
        (f"{ROOT}/team/my%20project/runs/ftjob-1", "W&amp;B run"),
        (f"https://portal.azure.com/#resource{ACCOUNT.lower()}/overview", "Azure account"),
    ]


def test_markup_stays_text_when_it_stands_in_any_field() -> None:
    cursor = Cursor(
        account=f"{ACCOUNT}{MARKUP}",
        job=MARKUP,
        status=MARKUP,
        run=RunPath(MARKUP, MARKUP, MARKUP),
        error=MARKUP,
        remedy=MARKUP,
        model=MARKUP,
    )
    odd = Finding("identity", "blocked", MARKUP, {MARKUP: MARKUP}, MARKUP)
    problem = Problem(source=MARKUP, subject=MARKUP, cause=MARKUP, remedy=MARKUP)
    query = StatusQuery(account="", job="")
    html = rendered(account(odd), cursors=[cursor], problems=[problem], query=query)
    html += rendered(query=StatusQuery(account=MARKUP, job=MARKUP))
    assert "<script>alert" not in html
    assert html.count("<script>") == 2  # the page's own, twice
    assert "&lt;script&gt;alert(1)" in html


def test_pages_keep_the_filter_when_there_are_more() -> None:
    cursors = [Cursor(account=ACCOUNT.lower(), job=f"ftjob-{n}") for n in range(5)]
    query = StatusQuery(account="aoai-one", unhealthy=False, page=2, limit=2)
    html = unescape(rendered(cursors=cursors, query=query))
    assert re.findall(r'<a href="(\?[^"]*)" class="page">(\w+)', html) == [
        ("?account=aoai-one&limit=2&page=1", "Previous"),
        ("?account=aoai-one&limit=2&page=3", "Next"),
    ]


@pytest.mark.parametrize(
    ("metrics", "text", "kinds"),
    [
        (
            {"train_loss": [[1, 2.0], [3, 1.0]], "valid_loss": [[2, 1.5]]},
            "training loss 2 to 1, validation loss 1.5 to 1.5, steps 1 to 3",
            ["train", "valid"],
        ),
        (
            {"valid_mean_reward": [[1, 0.5], [2, 0.5]]},
            "validation reward 0.5 to 0.5, steps 1 to 2",
            ["valid"],
        ),
    ],
    ids=["losses", "a reward that does not change"],
)
def test_chart_is_drawn_inside_its_frame(
    metrics: dict[str, list[list[float]]], text: str, kinds: list[str]
) -> None:
    drawn = chart({name: {"points": line, "last": line[-1]} for name, line in metrics.items()})
    assert drawn is not None
    assert drawn["text"] == text
    assert [line["kind"] for line in drawn["lines"]] == kinds
    for line in drawn["lines"]:
        assert all(
            0 <= x <= drawn["width"] and 0 <= y <= drawn["height"] for x, y in line["points"]
        )


def test_chart_is_left_out_when_there_is_no_value() -> None:
    assert chart({}) is None


def test_progress_rate_and_failures_are_shown_while_one_runs() -> None:
    html = part(rendered(resyncs=[shown(GOOD, BAD, LEFT)]), "running")
    assert "19 of 41 done, 2 failed, 2.1 a second, about 10 s left" in html
    assert "requested by anna@example.com" in html
    assert "ftjob-&lt;b&gt;: W&amp;B refuses the key" in html
    assert "store a new one" in html
    assert "ftjob-2: its file is gone" in html
    assert "<b>:" not in html


def test_failures_are_cut_when_there_are_too_many() -> None:
    many = replace(BAD, results=[{"job": f"j{n}", "error": "e", "remedy": "r"} for n in range(40)])
    html = part(rendered(resyncs=[shown(many, LEFT)]), "running")
    assert html.count(">failed<") == 12
    assert "and 28 more" in html


def test_nothing_is_shown_as_running_when_all_are_done() -> None:
    html = rendered(resyncs=[shown(GOOD, BAD)])
    assert "hidden" in part(html, "running")
    assert "progress" not in part(html, "running")
    assert "19 of 21" in part(html, "resyncs")
    assert "2 failed" in part(html, "resyncs")


def test_every_failure_has_a_remedy_when_its_cause_brought_none() -> None:
    results = shown(BAD)["items"][0]["results"]
    assert results[0]["remedy"] == "store a new one"
    assert "docs/troubleshooting.md" in results[1]["remedy"]
    problem = problem_view(Problem(source="relay_timer", subject=ACCOUNT, cause="answered 400"))
    assert "docs/troubleshooting.md" in problem["remedy"]
