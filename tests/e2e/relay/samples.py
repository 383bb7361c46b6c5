"""The published samples as jobs, whole and with one rule of damage applied to them."""

import copy
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.relay.stage import job

SAMPLES = Path(__file__).parents[4] / "shared" / "samples"
FILES = sorted(path for path in SAMPLES.glob("[0-9]*.*") if path.is_file())
Json = dict[str, Any]


@dataclass
class Case:
    """What the fine-tuning API answers for one job."""

    job: Json
    events: list[Any] = field(default_factory=list)
    checkpoints: list[Any] = field(default_factory=list)
    csv: str = ""
    published_csv: str = ""
    """The result file, where the job still names one."""


def cases(path: Path) -> list[Case]:
    """Return the jobs in a sample; events and checkpoints go to its first one."""
    if path.suffix == ".csv":
        return [Case(job(status="succeeded", result_files=["file-result"]), csv=path.read_text())]
    if path.suffix == ".txt":
        return [Case(job(status="succeeded"), _messages(path.read_text().splitlines()))]
    found = json.loads(path.read_text())
    jobs: list[Json] = []
    events: list[Any] = []
    checkpoints: list[Any] = []
    for item in _objects(found):
        if "step_number" in item:
            checkpoints.append(item)
        elif "message" in item and "created_at" in item:
            events.append(item)
        elif "status" in item and "id" in item:
            jobs.append(item)
    made = [Case(one) for one in jobs] or [Case(job())]
    made[0].events, made[0].checkpoints = events, checkpoints
    return made


def _messages(lines: list[str]) -> list[Json]:
    """Return a listing's sentences as events, newest first: only they were published."""
    steps = [int(found[1]) for line in lines if (found := re.match(r"Step (\d+)", line))]
    newest_first = lines if steps[0] > steps[-1] else lines[::-1]
    return [
        {
            "object": "fine_tuning.job.event",
            "id": f"ftevent-{number:06d}",
            "created_at": 1_735_722_800 + number,
            "level": "info",
            "message": line,
            "type": "message",
        }
        for number, line in zip(range(len(lines), 0, -1), newest_first, strict=True)
    ]


def _objects(found: Any) -> Iterator[Json]:
    if isinstance(found, dict):
        yield found
    for inner in found.values() if isinstance(found, dict) else found:
        if isinstance(inner, (dict, list)):
            yield from _objects(inner)


# Damages

Damage = Callable[[Any], Any]
"""Takes a leaf and returns what stands in its place."""


def _numbers_only(change: Callable[[Any], Any]) -> Damage:
    def damage(leaf: Any) -> Any:
        is_number = isinstance(leaf, (int, float)) and not isinstance(leaf, bool)
        return change(leaf) if is_number else leaf

    return damage


DAMAGES: dict[str, Damage] = {
    "null": lambda leaf: None,
    "text": lambda leaf: "no number",
    "list": lambda leaf: [leaf],
    "object": lambda leaf: {"inner": leaf},
    "true": lambda leaf: True,
    "long": lambda leaf: leaf * 2000 if isinstance(leaf, str) else leaf,
    "unicode": lambda leaf: f"{leaf} Ωß中文🙂\x00\ud800\n" if isinstance(leaf, str) else leaf,
    "number-as-text": _numbers_only(str),
    "number-as-float": _numbers_only(float),
    "64-bit": _numbers_only(lambda leaf: 2**62),
    "beyond-64-bit": _numbers_only(lambda leaf: 10**400),
    "huge": _numbers_only(lambda leaf: 1.5e308),
    "infinite": _numbers_only(lambda leaf: math.inf),
    "nan": _numbers_only(lambda leaf: math.nan),
    "negative": _numbers_only(lambda leaf: -leaf),
    "minus-one": _numbers_only(lambda leaf: -1),
}


def _places(found: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key, inner in found.items() if isinstance(found, dict) else enumerate(found):
        if isinstance(inner, (dict, list)) and inner:
            yield from _places(inner, (*where, key))
        yield (*where, key)


def _damaged(found: Any, place: tuple[Any, ...], damage: Damage) -> Any:
    found = copy.deepcopy(found)
    inner = found
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = damage(inner[place[-1]])
    return found


def _all_damaged(found: Any, damage: Damage) -> Any:
    if isinstance(found, dict):
        return {
            # The names themselves and the job's identity stay: without them there is no job.
            name: inner if name in ("id", "status") else _all_damaged(inner, damage)
            for name, inner in found.items()
        }
    if isinstance(found, list):
        return [_all_damaged(inner, damage) for inner in found]
    return damage(found)


def damaged(case: Case, damage: Damage, every: int) -> Iterator[Case]:
    """Yield the case with the damage everywhere, and with it at every so many places alone."""
    yield Case(
        _all_damaged(case.job, damage),
        _all_damaged(case.events, damage),
        _all_damaged(case.checkpoints, damage),
        case.csv,
    )
    whole = {"job": case.job, "events": case.events, "checkpoints": case.checkpoints}
    for place in list(_places(whole))[::every]:
        if len(place) < 2 or place == ("job", "id"):
            continue
        one = _damaged(whole, place, damage)
        yield Case(one["job"], one["events"], one["checkpoints"], case.csv)
