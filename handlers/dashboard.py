"""HTTP: the status as a web page. This file prepares plain values; pages/ holds the markup.

Names come from Azure and are untrusted: templates escape every value, and the page's policy
allows no script or style but its own.
"""

import asyncio
import base64
import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import azure.functions as func
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from finetune_wandb.flows.app import App
from finetune_wandb.flows.status import Situation, is_bad, needs_action, read_situation
from finetune_wandb.model.accounts.key import KeyRecord
from finetune_wandb.model.accounts.report import AccountReport
from finetune_wandb.model.causes import causes, checks
from finetune_wandb.model.relay.cursor import Cursor
from finetune_wandb.relay.run.summary import curve_points
from handlers.resync import view as resync_view
from handlers.status import StatusQuery, read_query, tagged_answer
from handlers.status_view import account_view, job_view, key_view, problem_view, queue_view

LIMIT: Final = 25
MOST_ON_PAGE: Final = 200
"""Each job's curve is a read of its own."""
_MOST_RESYNCS: Final = 5
_MOST_CAUSES: Final = 12
_AT_ONCE: Final = 16
_EXPIRES_SOON_S: Final = 30 * 86_400
_WORST: Final = ("blocked", "warning", "manual", "ok")
_WIDTH: Final = 168
_HEIGHT: Final = 48
_EDGE: Final = 3
_PAIRS: Final = (
    ("loss", "train_loss", ("valid_loss", "full_valid_loss")),
    ("reward", "train_mean_reward", ("valid_mean_reward",)),
)
_PAGES: Final = Path(__file__).parent / "pages"
_STYLE: Final = (_PAGES / "dashboard.css").read_text(encoding="utf-8")
_SCRIPT: Final = (_PAGES / "dashboard.js").read_text(encoding="utf-8")
_TEMPLATES: Final = Environment(
    loader=FileSystemLoader(_PAGES),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters["meaning"] = lambda cause: (
    causes()[cause].meaning.rstrip(".") if cause in causes() else cause
)


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_hash(_STYLE)}'; script-src 'sha256-{_hash(_SCRIPT)}';"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


async def answer(request: func.HttpRequest, app: App) -> func.HttpResponse:
    """Answer GET /api/dashboard. Raises RequestError, and TemporaryError for the tables."""
    query = read_query(request.params, limit=LIMIT, most=MOST_ON_PAGE)
    situation, resyncs = await asyncio.gather(read_situation(app), _resyncs(app))
    curves = await _curves(query.cut(_ranked(situation, query)), app)
    text = page(
        situation,
        query,
        curves=curves,
        resyncs=resyncs,
        run_root=app.settings.run_url_root,
        now=app.clock(),
        user=(request.headers.get("x-ms-client-principal-name") or "") if app.signed_in else "",
    )
    headers = {"Content-Security-Policy": _POLICY, "X-Frame-Options": "DENY"}
    return tagged_answer(request, text.encode("utf-8", "replace"), "text/html", headers)


async def _resyncs(app: App) -> list[dict[str, Any]]:
    latest = (await app.resyncs.latest())[:_MOST_RESYNCS]
    found = await asyncio.gather(*(app.resyncs.read(resync_id) for resync_id, _ in latest))
    return [resync_view(*one, now=app.clock()) for one in found if one]


async def _curves(cursors: list[Cursor], app: App) -> dict[tuple[str, str], dict[str, Any]]:
    limit = asyncio.Semaphore(_AT_ONCE)

    async def one(cursor: Cursor) -> dict[str, Any]:
        async with limit:
            return await app.relay.cursors.curve(cursor)

    found = await asyncio.gather(*map(one, cursors))
    return {(one.account, one.job): curve for one, curve in zip(cursors, found, strict=True)}


def page(
    situation: Situation,
    query: StatusQuery,
    *,
    curves: Mapping[tuple[str, str], dict[str, Any]],
    resyncs: list[dict[str, Any]],
    run_root: str,
    now: float,
    user: str,
) -> str:
    """Return the page. `curves` are by account and job; `now` is in unix seconds."""
    accounts = sorted(
        filter(query.takes_account, situation.accounts),
        key=lambda entry: (not needs_action(entry), entry.key),
    )
    cursors = _ranked(situation, query)
    shown = [_account(entry) for entry in query.cut(accounts)]
    found = {check for one in shown for check in one["cells"]}
    pages = query.pages(len(accounts), len(cursors))
    return _TEMPLATES.get_template("dashboard.html").render(
        style=_STYLE,
        script=_SCRIPT,
        user=user[:200],
        totals=situation.totals(),
        needs=_needs(situation),
        problems_count=len(situation.problems),
        query=query,
        pages=pages,
        links={
            name: "?" + urlencode(_parameters(query) | {"page": number})
            for name, number in (("Previous", query.page - 1), ("Next", query.page + 1))
            if 1 <= number <= pages
        },
        accounts=shown,
        accounts_count=len(accounts),
        checks=[check for check in checks() if check in found],
        jobs=[
            job_view(cursor, run_root)
            | {
                "is_bad": is_bad(cursor),
                "portal_url": _portal_url(cursor.account),
                "chart": chart(curves.get((cursor.account, cursor.job), {})),
            }
            for cursor in query.cut(cursors)
        ],
        jobs_count=len(cursors),
        keys=[_key(record, now) for record in situation.keys],
        queues=[queue_view(count) for count in situation.queues],
        resyncs=resyncs,
    )


def _ranked(situation: Situation, query: StatusQuery) -> list[Cursor]:
    """Return the jobs that match: trouble first, then what still runs, then the newest."""

    def rank(cursor: Cursor) -> tuple[int, float, str]:
        over = cursor.relay_state in ("complete", "skipped")
        return 0 if is_bad(cursor) else 1 + over, -(cursor.created_at or 0.0), cursor.job

    return sorted(filter(query.takes_job, situation.cursors), key=rank)


def _parameters(query: StatusQuery) -> dict[str, str | int]:
    given: dict[str, str | int] = {
        "account": query.account,
        "job": query.job,
        "unhealthy": int(query.unhealthy),
        "limit": query.limit,
    }
    return {name: value for name, value in given.items() if value}


def _portal_url(account: str) -> str:
    """Return an account's page in the Azure portal; jobs have no stable address there."""
    return f"https://portal.azure.com/#resource{quote(account)}/overview"


def _account(entry: AccountReport) -> dict[str, Any]:
    cells: dict[str, dict[str, Any]] = {}
    for item in entry.findings:
        cell = cells.setdefault(item.check, {"severity": "ok", "causes": []})
        cell["severity"] = min(cell["severity"], item.severity, key=_WORST.index)
        if item.severity != "ok":
            cell["causes"].append(item.cause)
    return account_view(entry) | {
        "key": entry.key,
        "needs_action": needs_action(entry),
        "portal_url": _portal_url(str(entry.id)),
        "cells": cells,
        "open": [item for item in entry.findings if item.severity != "ok"],
    }


def _needs(situation: Situation) -> list[dict[str, Any]]:
    """Return each cause that needs action with its remedy, an example and how often it is found."""
    seen = Counter[tuple[str, str]]()
    where: dict[tuple[str, str], str] = {}
    for cause, remedy, subject in _causes(situation):
        seen[cause, remedy] += 1
        where.setdefault((cause, remedy), subject)
    return [
        {"cause": cause, "remedy": remedy, "where": where[cause, remedy], "count": count}
        for (cause, remedy), count in seen.most_common(_MOST_CAUSES)
    ]


def _causes(situation: Situation) -> Iterator[tuple[str, str, str]]:
    for entry in filter(needs_action, situation.accounts):
        # A change that was planned and not applied is a warning, and the account is unhealthy.
        by_severity = [
            [item for item in entry.findings if item.severity == severity] for severity in _WORST
        ]
        for item in by_severity[0] or by_severity[1]:
            yield item.cause, item.remedy, entry.name
    for cursor in filter(is_bad, situation.cursors):
        job = job_view(cursor, "")
        yield job["error"] or job["state"], job["remedy"], cursor.job
    for problem in map(problem_view, situation.problems):
        yield problem["cause"], problem["remedy"], f"{problem['source']}: {problem['subject']}"


def _key(record: KeyRecord, now: float) -> dict[str, Any]:
    is_newest = bool(record.version) and record.newest_version == record.version
    expires = record.expires_at
    return key_view(record) | {
        "is_newest": is_newest,
        "newest": "in use" if is_newest else record.newest_cause or "not accepted",
        "expires_soon": expires is not None and expires.timestamp() - now < _EXPIRES_SOON_S,
    }


def chart(curve: dict[str, Any]) -> dict[str, Any] | None:
    """Return where to draw a job's losses or rewards, and the same in words; None without values.

    `curve` is what a cursor keeps. Each line has its `kind`, its `points`, and its `last` one.
    """
    series = curve_points(curve)
    for word, train, valids in _PAIRS:
        valid: list[list[float]] = next((series[one] for one in valids if series.get(one)), [])
        given = {"train": ("training", series.get(train, [])), "valid": ("validation", valid)}
        lines = {
            kind: (f"{name} {word}", [point for point in line if all(map(math.isfinite, point))])
            for kind, (name, line) in given.items()
        }
        if any(line for _, line in lines.values()):
            return _drawn({kind: one for kind, one in lines.items() if one[1]})
    return None


def _drawn(lines: Mapping[str, tuple[str, list[list[float]]]]) -> dict[str, Any]:
    left, right = _span([x for _, line in lines.values() for x, _ in line])
    low, high = _span([y for _, line in lines.values() for _, y in line])

    def place(x: float, y: float) -> tuple[float, float]:
        across = _EDGE + (x - left) / (right - left) * (_WIDTH - 2 * _EDGE)
        down = _HEIGHT - _EDGE - (y - low) / (high - low) * (_HEIGHT - 2 * _EDGE)
        return round(across, 1), round(down, 1)

    words = [f"{name} {line[0][1]:.4g} to {line[-1][1]:.4g}" for name, line in lines.values()]
    return {
        "text": f"{', '.join(words)}, steps {int(left)} to {int(right)}",
        "width": _WIDTH,
        "height": _HEIGHT,
        "lines": [
            {"kind": kind, "points": [place(*point) for point in line], "last": place(*line[-1])}
            for kind, (_, line) in lines.items()
        ],
    }


def _span(values: list[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
