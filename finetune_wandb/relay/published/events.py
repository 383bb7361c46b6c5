"""Events of a job: what one says, and how far the listing must be read for the new ones.

Azure does not specify the listing's order (the live service answers newest first, the spec's
example runs oldest first), so the order is observed. What is read decides only the cost and
the delay of a tick: exactness comes from the ledger and from the full read at a job's end.
"""

import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from finetune_wandb.model.errors import MissingError, RejectedError
from finetune_wandb.model.job_object import as_number
from finetune_wandb.model.redact import redacted
from finetune_wandb.relay.published.metrics import Number, metrics_of, read_metrics, step_of

FIRST_PAGE: Final = 20
"""A tick brings a handful of new events; asking for more would only re-read known ones."""
FULL_PAGE: Final = 100
"""Neither spec names an upper bound for `limit`; 100 is what the peers use."""
_MAX_PAGES: Final = 20_000
_LONGEST: Final = 8000
"""Characters of one message; W&B drops lines that are far too long."""
_STRAYS: Final = 20
"""One event in so many may be out of place without making the listing unordered, which would cost
a full read with every tick. What a short read misses, the full read at the job's end brings."""

ReadPage = Callable[[str | None, int], Awaitable["Page"]]


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing, in the service's order."""

    items: list[dict[str, Any]]
    has_more: bool


@dataclass(slots=True)
class Event:
    """One event of a job, not to be changed; frozen ones cost three times as much to make.

    `at` is unix seconds, None where it has no usable time."""

    key: str
    """The event's id; what it says, where it has none."""
    at: float | None
    step: int | None
    metrics: dict[str, Number]
    message: str
    is_error: bool
    not_finite: bool = False
    """One of its metrics is not a finite number."""
    total_steps: int | None = None
    """How many steps the job will have, where the event says it."""

    @property
    def identity(self) -> int:
        """63-bit hash of the key."""
        # Two independent 32-bit sums: enough to tell a few hundred messages of one job apart.
        name = self.key.encode("utf-8", "replace")
        return (zlib.crc32(name) << 31) ^ zlib.adler32(name[::-1] + name)


@dataclass(slots=True)
class Hints:
    """What the last read saw of the listing, so that the next one can stop early."""

    order: str = ""
    """`newest`, `oldest` or `mixed`; empty while unknown."""
    head: str = ""
    """Id of the listing's first event."""
    tail: str = ""
    """Id of the listing's last event."""
    recent: list[int] = field(default_factory=list)
    """Sums of the ids on the last first page: what is listed again need not be looked at again."""


@dataclass(slots=True)
class EventRead:
    """Events read, deduplicated, oldest first; and how many items could not be used."""

    events: list[Event] = field(default_factory=list)
    unusable: int = 0
    stepless: int = 0
    """Events that are kept for their message, but whose numbers belong to no step."""
    looped: bool = False
    """The listing said that there is more but showed no way on."""


async def read_new_events(read: ReadPage, hints: Hints, *, full: bool) -> EventRead:
    """Read the events that may be new and bring `hints` up to date.

    `full` reads the whole listing. Otherwise a newest-first listing is read down to the event
    that was its head last time, an oldest-first one from its last known tail on.
    """
    if not full and hints.order == "oldest" and hints.tail:
        try:
            return await _walk(read, hints, after=hints.tail, full=False)
        except (MissingError, RejectedError):
            # The service no longer knows the event we continued after.
            hints.order = ""
    return await _walk(read, hints, after=None, full=full)


async def _walk(read: ReadPage, hints: Hints, *, after: str | None, full: bool) -> EventRead:
    result = EventRead()
    known_head = hints.head
    recent = set(hints.recent) if not full and hints.order == "newest" else set()
    first_page: list[int] | None = None
    seen: dict[str, Event] = {}
    order = _Order()
    first_id, last_id = "", after or ""
    used = {last_id}
    limit = FULL_PAGE if full or after else FIRST_PAGE
    for _ in range(_MAX_PAGES):
        page = await read(last_id or None, limit)
        limit = FULL_PAGE
        page_ids: list[str] = []
        events: list[Event] = []
        for item in page.items:
            event_id = item.get("id") if isinstance(item, dict) else None
            if isinstance(event_id, str) and event_id:
                page_ids.append(event_id)
                if recent and zlib.crc32(event_id.encode("utf-8", "replace")) in recent:
                    continue
            event = parse_event(item)
            if event is None:
                result.unusable += 1
                continue
            if event.step is None:
                result.stepless += _has_numbers(item.get("data"))
            events.append(event)
        order.see(events)
        for event in events:
            known = seen.setdefault(event.key, event)
            # An id that comes again is left out only where it brings no value of its own.
            if (
                known is event
                or known.step != event.step
                or not event.metrics.keys() <= known.metrics.keys()
            ):
                result.events.append(event)
        met_head = known_head in page_ids
        first_id = first_id or (page_ids[0] if page_ids else "")
        if first_page is None:
            first_page = [
                zlib.crc32(one.encode("utf-8", "replace")) for one in page_ids[:FIRST_PAGE]
            ]
        if not page.has_more:
            last_id = page_ids[-1] if page_ids else last_id
            break
        # Where an id repeats, a service that goes on after its first place would come back here
        # for ever: every id is continued after once, the last of the page before others.
        place = next((one for one in reversed(page_ids) if one not in used), None)
        if place is None:
            result.looped = True
            break
        last_id = place
        used.add(place)
        if not full and met_head and (order.name or hints.order) == "newest":
            break
    if after is None:
        hints.order = order.name or hints.order
        hints.head = first_id or hints.head
        hints.recent = first_page or hints.recent
    if hints.order == "oldest":
        hints.tail = last_id
    result.events.sort(key=_by_time)
    return result


class _Order:
    """Watches the order in which events come."""

    def __init__(self) -> None:
        self._at: float | None = None
        self._step = -1
        self._up = self._down = 0

    def see(self, events: Iterable[Event]) -> None:
        """Take note of more events, in the listing's order."""
        last_at, last_step, up, down = self._at, self._step, self._up, self._down
        for event in events:
            at = event.at
            if at is None:
                continue
            step = -1 if event.step is None else event.step
            if last_at is not None:
                if at > last_at:
                    up += 1
                elif at < last_at:
                    down += 1
                elif step >= 0 and last_step >= 0:
                    # Messages have no step; only their times can be compared.
                    up += step > last_step
                    down += step < last_step
            last_at, last_step = at, step
        self._at, self._step, self._up, self._down = last_at, last_step, up, down

    @property
    def name(self) -> str:
        few, many = sorted((self._up, self._down))
        if few * _STRAYS > many:
            return "mixed"
        if not many:
            return ""
        return "newest" if self._down > self._up else "oldest"


def parse_event(item: object) -> Event | None:
    """Return what an event says, or None where nothing in it can be used."""
    if not isinstance(item, dict):
        return None
    data = item.get("data")
    step: int | None = None
    total: int | None = None
    metrics: dict[str, Number] = {}
    not_finite = False
    if isinstance(data, dict):
        total = step_of(data.get("total_steps"))
        step = step_of(data.get("step"))
        if step is not None:
            metrics, not_finite = read_metrics(data)
    message = item.get("message")
    text = _text(message) if isinstance(message, str) else ""
    if not metrics and not text:
        return None
    at = item.get("created_at")
    at = float(at) if type(at) is int else as_number(at)
    key = item.get("id")
    if not isinstance(key, str) or not key:
        # Of the time as it was given: stored sums of it tell which lines the run has already.
        key = repr((at, text, step, sorted(metrics.items())))
    if at is not None and not 0 <= at < 1e11:
        at = None
    return Event(key, at, step, metrics, text, item.get("level") == "error", not_finite, total)


def console_line(event: Event, at: float) -> str:
    """Return an event's line of console output, as the wandb SDK writes one.

    Source: facts/wandb.md 2.1 (recorded from wandb 0.31.0): UTC without a zone, then the text;
    `ERROR ` leads a line of the error stream.
    """
    minute, second = divmod(at if at.is_integer() else round(at, 6), 60.0)
    stamp = f"{_minute(int(minute))}{second:09.6f}"
    return f"{'ERROR ' if event.is_error else ''}{stamp} {redacted(event.message)}"


@lru_cache(maxsize=4096)
def _minute(minute: int) -> str:
    """Return the beginning of a stamp: most of a job's lines fall into few minutes."""
    return datetime.fromtimestamp(minute * 60, UTC).strftime("%Y-%m-%dT%H:%M:")


def line_mark(event: Event) -> str | None:
    """Return the ledger's name for a metric event's console line; None for plain messages.

    A job has as many metric events as steps: their lines go into the ledger, which stays small,
    while the few plain messages are remembered by their identity.
    """
    if event.step is None:
        return None
    # By the first name, not by all: steps with and without validation values then belong to one
    # progression, while two events of one step with different metrics stay two.
    return _line_name(min(event.metrics, default=""))


@lru_cache(maxsize=1024)
def _line_name(metric: str) -> str:
    return f"\0line:{zlib.crc32(metric.encode('utf-8', 'replace')):08x}"


def _text(message: str) -> str:
    """Return a message as one line of a length that a console takes."""
    text = message
    if not message.isprintable() or "  " in message or message != message.strip():
        text = " ".join(message.split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text)} characters)"


def _has_numbers(data: object) -> bool:
    return isinstance(data, Mapping) and bool(metrics_of(data))


def _by_time(event: Event) -> tuple[float, int]:
    return (event.at or 0.0, event.step if event.step is not None else -1)
