"""The dashboard as one HTML page: nothing outside of it is loaded, no script but its own runs."""

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from finetune_wandb.flows.status import Situation, is_bad
from finetune_wandb.model.cursor import Cursor
from finetune_wandb.model.plan import AccountEntry
from handlers import dashboard_parts as parts
from handlers import dashboard_resyncs as resync_parts
from handlers import dashboard_stores as stores
from handlers.html import Html, tag
from handlers.status_query import StatusQuery
from handlers.status_view import remedy_for, remedy_of

_PAGES: Final = Path(__file__).parent / "pages"
_STYLE: Final = (_PAGES / "dashboard.css").read_text(encoding="utf-8")
_SCRIPT: Final = (_PAGES / "dashboard.js").read_text(encoding="utf-8")
_MOST_CAUSES: Final = 12
_SECTIONS: Final = (
    ("accounts", "Accounts"),
    ("jobs", "Jobs"),
    ("keys", "Keys"),
    ("queues", "Queues"),
    ("resyncs", "Re-syncs"),
)


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_hash(_STYLE)}'; script-src 'sha256-{_hash(_SCRIPT)}';"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def page(
    situation: Situation,
    query: StatusQuery,
    *,
    accounts: list[AccountEntry],
    cursors: list[Cursor],
    curves: Mapping[tuple[str, str], dict[str, Any]],
    resyncs: list[dict[str, Any]],
    run_root: str,
    now: datetime,
    user: str,
) -> str:
    """Return the page. `accounts` and `cursors` are all that match; the page cuts them."""
    totals = situation.totals()
    body = tag(
        "body",
        tag("a", "To the accounts", href="#accounts", class_="skip"),
        _header(totals, user),
        tag(
            "main",
            tag("div", id="progress", role="status", aria_live="polite", hidden=True),
            resync_parts.running(resyncs),
            _needs_you(situation),
            _filter(query),
            parts.section(
                "accounts",
                "Accounts",
                parts.matrix(query.cut(accounts)),
                count=str(len(accounts)),
            ),
            parts.section(
                "jobs",
                "Jobs",
                parts.jobs_table(query.cut(cursors), curves, run_root),
                count=str(len(cursors)),
            ),
            _paging(query, len(accounts), len(cursors)),
            parts.section("keys", "Keys", stores.keys_table(situation.keys, now)),
            parts.section("queues", "Queues", stores.queues_table(situation.queues)),
            resync_parts.latest(resyncs),
        ),
        tag("script", Html(_SCRIPT)),
    )
    top = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", "Fine-tuning relay"),
        tag("style", Html(_STYLE)),
    )
    return "<!doctype html>" + tag("html", top, body, lang="en")


def _header(totals: Mapping[str, Any], user: str) -> Html:
    bad, jobs = totals["unhealthy"], totals["jobs_with_error"]
    if bad or jobs or totals["poison"]:
        words = [
            f"{bad} of {totals['accounts']} accounts" if bad else "",
            f"{jobs} {'job' if jobs == 1 else 'jobs'}" if jobs else "",
            f"{totals['poison']} {'message' if totals['poison'] == 1 else 'messages'} set aside"
            if totals["poison"]
            else "",
        ]
        said, kind = f"Needs you: {', '.join(word for word in words if word)}", "blocked"
    elif totals["accounts"]:
        said, kind = f"All is well with {totals['accounts']} accounts", "ok"
    else:
        said, kind = "No account was found yet", "warning"
    states = totals["jobs_by_state"]
    tiles = [
        ("accounts", totals["accounts"]),
        ("jobs live", states.get("live", 0) + states.get("ending", 0) + states.get("new", 0)),
        ("jobs complete", states.get("complete", 0)),
        ("jobs in trouble", jobs),
        ("set aside", totals["poison"]),
    ]
    return tag(
        "header",
        tag("h1", "Fine-tuning relay"),
        tag("p", said, class_=f"verdict {kind}"),
        tag(
            "dl",
            [tag("div", tag("dt", name), tag("dd", f"{value:,}")) for name, value in tiles],
        ),
        tag(
            "div",
            tag(
                "button",
                "Re-sync everything",
                type="button",
                class_="resync first",
                data_scope="all",
                id="resync-all",
            ),
            tag(
                "button",
                "Only check",
                type="button",
                class_="resync",
                data_scope="all",
                data_mode="check",
                id="check-all",
            ),
            tag("span", f"Signed in as {user}", class_="quiet") if user else None,
            tag("span", "", id="fresh", class_="quiet"),
            class_="actions",
        ),
        tag(
            "nav",
            [tag("a", title, href=f"#{name}") for name, title in _SECTIONS],
            aria_label="On this page",
        ),
        id="top",
        data_live=True,
    )


def _needs_you(situation: Situation) -> Html:
    """Return the causes that keep things from working, the most frequent first."""
    seen: Counter[tuple[str, str]] = Counter()
    where: dict[tuple[str, str], str] = {}
    for entry in situation.accounts:
        for finding in entry.findings:
            if entry.in_scope and finding.severity == "blocked":
                key = (finding.cause, finding.remedy)
                seen[key] += 1
                where.setdefault(key, entry.name)
    for cursor in situation.cursors:
        if is_bad(cursor):
            key = (cursor.error or cursor.relay_state, remedy_of(cursor))
            seen[key] += 1
            where.setdefault(key, cursor.job)
    for problem in situation.problems:
        key = (problem.cause, remedy_for(problem.cause, problem.remedy))
        seen[key] += 1
        where.setdefault(key, f"{problem.source}: {problem.subject}")
    set_aside = sum(count.poison for count in situation.queues)
    if not seen and not set_aside:
        return tag("section", id="needs", data_live=True, hidden=True)
    items = [
        tag(
            "li",
            tag("p", tag("b", parts.meaning(cause)), f" · {where[cause, remedy]}", _more(count)),
            parts.copyable(remedy, f"remedy for {cause}") if remedy else None,
        )
        for (cause, remedy), count in seen.most_common(_MOST_CAUSES)
    ]
    if set_aside:
        said = f"{set_aside:,} {'message' if set_aside == 1 else 'messages'} failed too often"
        remedy = "Re-sync everything: it takes up again what was set aside."
        items.insert(0, tag("li", tag("p", tag("b", said)), tag("p", remedy)))
    return parts.section("needs", "What needs you", tag("ul", items, class_="causes"))


def _more(count: int) -> str:
    return f" and {count - 1} more" if count > 1 else ""


def _filter(query: StatusQuery) -> Html:
    return tag(
        "form",
        tag("label", "Account ", tag("input", name="account", value=query.account)),
        tag("label", "Job ", tag("input", name="job", value=query.job)),
        tag(
            "label",
            tag(
                "input",
                type="checkbox",
                name="unhealthy",
                value="1",
                checked=query.unhealthy,
            ),
            " only what needs somebody",
        ),
        tag("button", "Show", type="submit"),
        method="get",
        id="filter",
        aria_label="Filter",
    )


def _paging(query: StatusQuery, accounts: int, jobs: int) -> Html:
    pages = query.pages(accounts, jobs)
    links: list[Html] = []
    for text, number in (("Newer", query.page - 1), ("Older", query.page + 1)):
        if 1 <= number <= pages:
            wanted = {
                "account": query.account,
                "job": query.job,
                "unhealthy": "1" if query.unhealthy else "",
                "limit": query.limit,
                "page": number,
            }
            href = "?" + urlencode({name: value for name, value in wanted.items() if value})
            links.append(tag("a", text, href=href, class_="page"))
    here = tag("span", f"Page {query.page} of {pages}", class_="quiet")
    return tag("nav", here, links, aria_label="Pages", id="pages", data_live=True)
