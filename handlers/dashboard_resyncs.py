"""Re-syncs on the dashboard: how far those are that run, and what was asked for lately."""

from collections.abc import Mapping
from typing import Any, Final

from handlers import dashboard_parts as parts
from handlers.html import Child, Html, tag

_MOST_FAILURES: Final = 12


def running(resyncs: list[dict[str, Any]]) -> Html:
    """Return those that run, whoever asked, with their failed items; hidden where none does."""
    found = [shown for shown in resyncs if shown["state"] != "done"]
    if not found:
        return tag("section", id="running", data_live=True, hidden=True)
    return parts.section("running", "Re-sync under way", [_running(shown) for shown in found])


def _running(shown: Mapping[str, Any]) -> Html:
    left = shown["left_s"]
    words = [
        f"{shown['done']} of {shown['total']} done",
        f"{shown['failed']} failed",
        f"{shown['rate_per_s']:.1f} a second",
        f"about {left} s left" if left is not None else "",
    ]
    by = f" · asked by {shown['requested_by']}" if shown["requested_by"] else ""
    failures = [
        (item, result)
        for item in shown["items"]
        if item["state"] == "failed" or item["failed"]
        for result in item["results"]
        if result.get("error")
    ]
    return tag(
        "div",
        tag("p", tag("b", _wanted(shown["request"])), by),
        tag("p", _bar(shown), f" {', '.join(word for word in words if word)}"),
        [_failure(item, result) for item, result in failures[:_MOST_FAILURES]],
        tag("p", f"and {len(failures) - _MOST_FAILURES} more", class_="quiet")
        if len(failures) > _MOST_FAILURES
        else None,
    )


def _failure(item: Mapping[str, Any], result: Mapping[str, Any]) -> Html:
    name = result.get("job") or item["account"].rpartition("/")[2]
    remedy = result.get("remedy")
    return tag(
        "div",
        tag("p", tag("span", "failed", class_="state blocked"), f" {name}: {result['error']}"),
        parts.copyable(remedy, f"remedy for {name}") if remedy else None,
        class_="finding",
    )


def _bar(shown: Mapping[str, Any]) -> Html:
    return tag(
        "progress",
        value=shown["done"] + shown["failed"],
        max=max(shown["total"], 1),
        aria_label=f"re-sync {shown['id'][:8]}",
    )


def _failed(shown: Mapping[str, Any]) -> Html | None:
    if not shown["failed"]:
        return None
    return tag("span", f"{shown['failed']} failed", class_="state blocked")


def latest(resyncs: list[dict[str, Any]]) -> Html:
    """Return what was asked for lately, newest first."""
    if not resyncs:
        return parts.section("resyncs", "Re-syncs", tag("p", "None yet.", class_="quiet"))
    rows: list[list[Child]] = [
        [
            parts.when(shown["created_at"]),
            _wanted(shown["request"]),
            shown["requested_by"] or "–",
            [_bar(shown), f" {shown['done']} of {shown['total']}", _failed(shown)],
            shown["state"],
        ]
        for shown in resyncs
    ]
    names = ("Asked", "For", "By", "Progress", "State")
    return parts.section("resyncs", "Re-syncs", parts.stacked("re-syncs", names, rows))


def _wanted(request: Mapping[str, Any]) -> str:
    subject = request["job"] or request["account"].rpartition("/")[2] or "everything"
    words = [request["mode"], subject]
    if request["force"]:
        words.append("forced")
    if request["since"]:
        words.append(f"since {request['since'][:10]}")
    return " ".join(words)
