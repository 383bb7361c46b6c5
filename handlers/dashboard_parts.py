"""The sections of the dashboard, each from what the status knows.

All names come from Azure and are untrusted: they go through `html.tag`, never into markup.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from finetune_wandb.flows.status import is_bad
from finetune_wandb.model.causes import causes
from finetune_wandb.model.causes import checks as all_checks
from finetune_wandb.model.cursor import Cursor
from finetune_wandb.model.finding import Finding
from finetune_wandb.model.plan import AccountEntry
from handlers.dashboard_chart import chart
from handlers.html import Child, Html, tag
from handlers.status_view import remedy_of, run_url, time_view, unix_view

SIGNS: Final = {"ok": "✓", "warning": "!", "blocked": "✕", "manual": "☞"}
_WORST: Final = ("blocked", "warning", "manual", "ok")


def section(name: str, title: str, *children: Any, count: str = "") -> Html:
    return tag(
        "section",
        tag("h2", title, tag("span", count, class_="count") if count else None, id=f"{name}-title"),
        *children,
        id=name,
        aria_labelledby=f"{name}-title",
        data_live=True,
    )


def when(text: str | None) -> Html:
    """Return a time that the page's script turns into an age."""
    return tag("time", text, datetime=text) if text else tag("span", "never", class_="quiet")


def copyable(text: str, what: str) -> Html:
    """Return text that a button copies."""
    return tag(
        "div",
        tag("pre", text),
        tag("button", "Copy", type="button", class_="copy", aria_label=f"Copy {what}"),
        class_="copyable",
    )


def meaning(cause: str) -> str:
    """Return a cause's code in plain words; other text as it is."""
    known = causes().get(cause)
    return known.meaning.rstrip(".") if known else cause


def portal_link(account: str) -> str:
    """Return an account's page in the Azure portal."""
    return f"https://portal.azure.com/#resource{quote(account)}/overview"


def outside(text: str, url: str) -> Html:
    return tag("a", text, href=url, target="_blank", rel="noopener noreferrer")


def wide(label: str, table: Html) -> Html:
    """Return a table that scrolls by itself where the screen is narrow."""
    return tag(
        "div", table, class_="wide", tabindex="0", role="region", aria_label=f"table of {label}"
    )


def head(*names: str | Html) -> Html:
    return tag("thead", tag("tr", [tag("th", name, scope="col") for name in names]))


def stacked(label: str, names: Sequence[str], rows: Iterable[Sequence[Child]]) -> Html:
    """Return a table whose rows become cards where the screen is narrow; cells as in `names`."""
    body = [
        tag(
            "tr",
            tag("th", row[0], scope="row"),
            [
                tag("td", cell, data_label=name)
                for name, cell in zip(names[1:], row[1:], strict=True)
            ],
        )
        for row in rows
    ]
    return wide(label, tag("table", head(*names), tag("tbody", body), class_="stacked"))


def matrix(accounts: list[AccountEntry]) -> Html:
    """Return accounts × checks; below each account what is not as it should be.

    It lies open where one account alone is shown; otherwise the page's top says it.
    """
    found = {finding.check for entry in accounts for finding in entry.findings}
    checks = [check for check in all_checks() if check in found]
    if not accounts:
        return tag("p", "No account matches.", class_="quiet")
    rows: list[Html] = []
    for entry in accounts:
        rows.append(_account_row(entry, checks))
        rows += _finding_rows(entry, len(checks) + 3, is_open=len(accounts) == 1)
    names = [check.replace("_", " ") for check in checks]
    return wide(
        "accounts and checks",
        tag(
            "table", head("Account", *names, "Checked", "Fix"), tag("tbody", rows), class_="matrix"
        ),
    )


def _account_row(entry: AccountEntry, checks: list[str]) -> Html:
    cells = [
        _cell(check, [one for one in entry.findings if one.check == check]) for check in checks
    ]
    state, kind = "left alone", "none"
    if entry.in_scope:
        state, kind = ("healthy", "ok") if entry.healthy else ("needs you", "blocked")
    return tag(
        "tr",
        tag(
            "th",
            outside(entry.name, portal_link(str(entry.id))),
            tag("span", state, class_=f"state {kind}"),
            scope="row",
        ),
        cells,
        tag("td", when(time_view(entry.checked_at))),
        tag(
            "td",
            tag(
                "button",
                "Re-sync",
                type="button",
                class_="resync",
                data_scope="account",
                data_account=str(entry.id),
                aria_label=f"Re-sync {entry.name}",
            ),
        ),
    )


def _cell(check: str, findings: list[Finding]) -> Html:
    severities = [one.severity for one in findings]
    worst = next((kind for kind in _WORST if kind in severities), "none")
    causes = ", ".join(one.cause for one in findings if one.severity != "ok")
    said = f"{check}: {worst}" + (f", {causes}" if causes else "")
    return tag(
        "td",
        tag("span", SIGNS.get(worst, "–"), class_=f"sign {worst}", aria_hidden="true"),
        tag("span", said, class_="hidden"),
        title=said,
    )


def _finding_rows(entry: AccountEntry, columns: int, *, is_open: bool) -> list[Html]:
    open_ones = [one for one in entry.findings if one.severity != "ok"]
    if not open_ones:
        return []
    said = f"{len(open_ones)} to look at: {', '.join(one.cause for one in open_ones)}"
    details = tag(
        "details",
        tag("summary", said),
        [_finding(one) for one in open_ones],
        id=f"findings-{entry.key}",
        open=is_open,
    )
    return [tag("tr", tag("td", details, colspan=columns), class_="more")]


def _finding(finding: Finding) -> Html:
    evidence = ", ".join(f"{name}: {value}" for name, value in finding.evidence.items())
    return tag(
        "div",
        tag(
            "p",
            tag("span", finding.severity, class_=f"state {finding.severity}"),
            " ",
            tag("b", meaning(finding.cause)),
            f" ({finding.cause})",
            tag("span", f" {evidence}", class_="quiet") if evidence else None,
        ),
        copyable(finding.remedy, f"remedy for {finding.cause}") if finding.remedy else None,
        class_="finding",
    )


def jobs_table(
    cursors: list[Cursor], curves: Mapping[tuple[str, str], dict[str, Any]], run_root: str
) -> Html:
    if not cursors:
        return tag("p", "No job matches.", class_="quiet")
    rows = [
        _job_row(cursor, curves.get((cursor.account, cursor.job), {}), run_root)
        for cursor in cursors
    ]
    table = tag(
        "table",
        head("Job", "State", "Loss", "Relayed", "Last value", "Where"),
        tag("tbody", rows),
        class_="jobs",
    )
    legend = tag(
        "p",
        tag("span", "training", class_="legend train"),
        " ",
        tag("span", "validation", class_="legend valid"),
        class_="quiet",
    )
    return Html(wide("jobs", table) + legend)


def _job_row(cursor: Cursor, curve: dict[str, Any], run_root: str) -> Html:
    kind = "blocked" if is_bad(cursor) else "ok" if cursor.relay_state == "complete" else "live"
    url = run_url(cursor, run_root)
    trouble = None
    if cursor.error:
        trouble = tag(
            "div",
            tag("p", cursor.error),
            copyable(remedy_of(cursor), f"remedy for {cursor.job}"),
            class_="finding",
        )
    lag = f"{cursor.lag_s:.1f} s behind Azure" if cursor.lag_s is not None else None
    return tag(
        "tr",
        tag(
            "th",
            tag("span", cursor.job, class_="id"),
            tag("span", f"{cursor.account.rpartition('/')[2]} · {cursor.model}", class_="quiet"),
            trouble,
            scope="row",
        ),
        tag(
            "td",
            tag("span", cursor.relay_state, class_=f"state {kind}"),
            tag("span", cursor.status, class_="quiet"),
        ),
        tag("td", chart(curve) or tag("span", "no values yet", class_="quiet")),
        tag(
            "td",
            tag("span", f"{cursor.values:,} values"),
            tag("span", f"step {cursor.last_step}", class_="quiet")
            if cursor.last_step is not None
            else None,
        ),
        tag(
            "td",
            when(unix_view(cursor.last_value_at)),
            tag("span", lag, class_="quiet") if lag else None,
        ),
        tag(
            "td",
            outside("W&B run", url) if url else None,
            outside("Azure portal", portal_link(cursor.account)),
            tag(
                "button",
                "Re-check",
                type="button",
                class_="resync",
                data_scope="job",
                data_account=cursor.account,
                data_job=cursor.job,
                aria_label=f"Re-check {cursor.job}",
            ),
            class_="links",
        ),
    )
