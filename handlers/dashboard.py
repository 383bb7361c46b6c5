"""HTTP: the status as a web page. This file prepares plain values; pages/ holds the markup.

Names come from Azure and are untrusted: templates escape every value, and the page's policy
allows no script or style but its own.
"""

import asyncio
import base64
import hashlib
import math
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import azure.functions as func
import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from finetune_wandb.flows.app import App
from finetune_wandb.flows.status import Situation, is_bad, needs_action, read_situation
from finetune_wandb.model.causes import causes, checks
from finetune_wandb.model.relay.cursor import Cursor
from finetune_wandb.relay.run.summary import curve_points
from handlers.resync import caller
from handlers.resync import view as resync_view
from handlers.status import StatusQuery, job_view, read_query, remedy_for, tagged_answer

LIMIT: Final = 25
MOST_ON_PAGE: Final = 200
"""Each job's curve is a separate read."""
_MOST_RESYNCS: Final = 5
_MOST_CAUSES: Final = 12
_AT_ONCE: Final = 16
_EXPIRES_SOON: Final = timedelta(days=30)
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
_TEMPLATES.filters["iso"] = msgspec.to_builtins
_TEMPLATES.tests["needing_action"] = needs_action
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
    situation, latest = await asyncio.gather(read_situation(app), app.resyncs.latest())
    found = await asyncio.gather(*(app.resyncs.read(one) for one, _ in latest[:_MOST_RESYNCS]))
    curves = await _curves(query.cut(_ranked(situation, query)), app)
    text = page(
        situation,
        query,
        curves=curves,
        resyncs=[resync_view(*one, now=app.clock()) for one in found if one],
        run_root=app.settings.run_url_root,
        now=app.clock(),
        user=caller(request, app),
    )
    headers = {"Content-Security-Policy": _POLICY, "X-Frame-Options": "DENY"}
    return tagged_answer(request, text.encode("utf-8", "replace"), "text/html", headers)


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
    shown = query.cut(accounts)
    found = {item.check for entry in shown for item in entry.findings}
    return _TEMPLATES.get_template("dashboard.html").render(
        style=_STYLE,
        script=_SCRIPT,
        user=user,
        totals=situation.totals(),
        needs=_needs(situation),
        problems_count=len(situation.problems),
        query=query,
        pages=query.pages(len(accounts), len(cursors)),
        accounts=shown,
        accounts_count=len(accounts),
        checks=[check for check in checks() if check in found],
        jobs=[
            job_view(cursor, run_root)
            | {
                "is_bad": is_bad(cursor),
                "chart": chart(curves.get((cursor.account, cursor.job), {})),
            }
            for cursor in query.cut(cursors)
        ],
        jobs_count=len(cursors),
        keys=situation.keys,
        soon=datetime.fromtimestamp(now, UTC) + _EXPIRES_SOON,
        queues=situation.queues,
        resyncs=resyncs,
    )


def _ranked(situation: Situation, query: StatusQuery) -> list[Cursor]:
    """Return the jobs that match: those with errors first, then running ones, then the newest."""

    def rank(cursor: Cursor) -> tuple[int, float, str]:
        over = cursor.relay_state in ("complete", "skipped")
        return 0 if is_bad(cursor) else 1 + over, -(cursor.created_at or 0.0), cursor.job

    return sorted(filter(query.takes_job, situation.cursors), key=rank)


def _needs(situation: Situation) -> list[dict[str, Any]]:
    """Return each cause that needs action with its remedy, an example and its count."""
    causes: list[tuple[str, str, str]] = []
    for entry in filter(needs_action, situation.accounts):
        blocked, warnings = (
            [item for item in entry.findings if item.severity == severity]
            for severity in ("blocked", "warning")
        )
        causes += [(item.cause, item.remedy, entry.name) for item in blocked or warnings]
    for job in filter(is_bad, situation.cursors):
        remedy = remedy_for(job.error, job.remedy)
        causes.append((job.error or job.relay_state, remedy, job.job))
    for one in situation.problems:
        remedy = remedy_for(one.cause, one.remedy)
        causes.append((one.cause, remedy, f"{one.source}: {one.subject}"))
    seen = Counter((cause, remedy) for cause, remedy, _ in causes)
    where = {(cause, remedy): subject for cause, remedy, subject in reversed(causes)}
    return [
        {"cause": cause, "remedy": remedy, "where": where[cause, remedy], "count": count}
        for (cause, remedy), count in seen.most_common(_MOST_CAUSES)
    ]


def chart(curve: dict[str, Any]) -> dict[str, Any] | None:
    """Return the lines of a job's losses or rewards, and the same in words; None without values.

    `curve` comes from the cursor. Each line has its `kind`, its `points`, and its `last` one.
    """
    series = curve_points(curve)
    for word, train, valids in _PAIRS:
        valid = next((one for one in valids if series.get(one)), "")
        lines = [
            (kind, f"{name} {word}", line)
            for kind, name, metric in (("train", "training", train), ("valid", "validation", valid))
            if (line := [one for one in series.get(metric, ()) if all(map(math.isfinite, one))])
        ]
        if lines:
            return _drawn(lines)
    return None


def _drawn(lines: list[tuple[str, str, list[list[float]]]]) -> dict[str, Any]:
    left, right = _span([x for *_, line in lines for x, _ in line])
    low, high = _span([y for *_, line in lines for _, y in line])

    def place(x: float, y: float) -> tuple[float, float]:
        across = _EDGE + (x - left) / (right - left) * (_WIDTH - 2 * _EDGE)
        down = _HEIGHT - _EDGE - (y - low) / (high - low) * (_HEIGHT - 2 * _EDGE)
        return round(across, 1), round(down, 1)

    words = [f"{name} {line[0][1]:.4g} to {line[-1][1]:.4g}" for _, name, line in lines]
    return {
        "text": f"{', '.join(words)}, steps {int(left)} to {int(right)}",
        "width": _WIDTH,
        "height": _HEIGHT,
        "lines": [
            {"kind": kind, "points": [place(*point) for point in line], "last": place(*line[-1])}
            for kind, _, line in lines
        ],
    }


def _span(values: list[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
