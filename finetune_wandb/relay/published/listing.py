"""A job's event listing: how far it must be read for the events that are new.

Azure does not specify the listing's order (the live service answers newest first, the spec's
example runs oldest first). A live read therefore ends early only where what it read proves that
nothing new can lie beyond: it met the events that the last read left off at, in the order that
their times show, and it went `LATE_S` seconds further into the past. Without that proof it reads
the whole listing. An event listed later than that is seen where a read goes `further`, which one
does now and then in a listing that runs newest first, or with the full read at the job's end.
"""

import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from finetune_wandb.model.errors import MissingError, RejectedError
from finetune_wandb.model.relay.cursor import Kept
from finetune_wandb.model.relay.job import as_moment
from finetune_wandb.model.relay.ports import Listing
from finetune_wandb.relay.published.rows import Event, metrics_of, parse_event

LATE_S: Final = 30.0
"""An event may be listed so many seconds after its time and is still seen by the next live read.
Longer costs the ticks of busy jobs more: their events of so many seconds are read again."""
_FURTHER_S: Final = 1200.0
"""Of two reads that go further, ten minutes apart, one sees an event that is ten minutes late."""
PAGE: Final = 100
"""Neither spec names an upper bound for `limit`; 100 is what the peers use. A live read takes a
whole page though most of it is known: what is inserted late among these events is seen at once."""
_MOST_PAGES: Final = 1000
"""Pages of one read; the next one goes on where it ended."""
_STRAYS: Final = 8
"""One comparison in so many may contradict the others without making the listing unordered."""
_ENOUGH: Final = 3
"""Comparisons of times that show an order, and events beyond `LATE_S` that show its end."""
_ANCHORS: Final = 4
"""Known events that a live read must meet again."""

ReadPage = Callable[[str | None], Awaitable[Listing]]
"""Reads up to PAGE items after the one with an id, or from the head."""


class Hints(Kept):
    """What the last read saw of the listing, so that the next one can stop early."""

    order: str = ""
    """`newest`, `oldest` or `mixed`; empty while unknown."""
    recent: list[int] = msgspec.field(default_factory=list)
    """Marks of the known events that the next read meets first, in the listing's order."""
    horizon: float | None = None
    """What is older than this (unix seconds) does not change any more."""
    after: str = ""
    """Id of the event that the next read goes on after: in an oldest-first listing always, in
    others only where the last read was not finished."""
    ending: bool = False
    """The unfinished read is a full one."""

    def further(self) -> "Hints":
        """Return hints for a read that goes further into the past, for events listed later yet.

        One that was not finished goes on as it is.
        """
        if self.horizon is None or self.after:
            return self
        return msgspec.structs.replace(self, horizon=self.horizon - _FURTHER_S)


@dataclass(slots=True)
class EventRead:
    """Events read, deduplicated, oldest first; and how many items could not be used."""

    events: list[Event] = field(default_factory=list)
    hints: Hints = field(default_factory=Hints)
    """For the next read, once all of these events are dealt with."""
    unfinished: bool = False
    """The read used up its pages: the next one goes on where this one ended."""
    unusable: int = 0
    stepless: int = 0
    """Events that are kept for their message, but whose numbers belong to no step."""
    looped: bool = False
    """The listing said that there is more but showed no way on."""


async def read_events(
    read: ReadPage, hints: Hints, *, full: bool, most: int = _MOST_PAGES
) -> EventRead:
    """Read every event that is not known to have been read before, in at most `most` pages.

    `full` reads the whole listing, beginning anew unless the last read was an unfinished full one.
    """
    known = Hints() if full and not hints.ending else hints
    walk = _Walk(read, known, most)
    try:
        is_proven = await walk.go_on()
    except (MissingError, RejectedError):
        if not known.after:
            raise
        is_proven = False  # the service no longer knows the event to go on after
    if not is_proven:
        walk = _Walk(read, Hints(), most)
        await walk.go_on()
    return walk.result(full=full)


class _Walk:
    """One way through a listing: what it met, and whether that proves that nothing is missing."""

    def __init__(self, read: ReadPage, hints: Hints, most: int) -> None:
        self._read = read
        self._hints = hints
        self._left = most
        self._known = set(hints.recent)
        self._found = EventRead()
        self._seen: dict[str, Event] = {}
        self._met: list[tuple[str, float | None]] = []
        """Ids and times of the events on the way."""
        self._last = ""
        """Id that the next page comes after."""
        self._used: set[str] = set()
        self._at: float | None = None
        self._up = self._down = 0
        self._more = True

    @property
    def order(self) -> str:
        """The order that the times on the way show; empty where they are too few or too equal."""
        few, many = sorted((self._up, self._down))
        if few * _STRAYS > many:
            return "mixed"
        if many < _ENOUGH:
            return ""
        return "newest" if self._down > self._up else "oldest"

    async def go_on(self) -> bool:
        """Read what may be new; say whether nothing can be missing (or the pages are used up)."""
        hints = self._hints
        if hints.order == "newest":
            if await self._down_to_known():
                self._more = bool(hints.after)
                await self._to_end(hints.after)
            return True
        await self._to_end(hints.after)
        if hints.order != "oldest" or not hints.recent:
            return True
        # The events that followed follow still, and later ones came after them.
        met = {_mark(name) for name, _ in self._met[:PAGE]}
        return self.order == "oldest" and met.issuperset(hints.recent[:_ANCHORS])

    async def _down_to_known(self) -> bool:
        """Read from the head until what is new must have been met; say whether it must."""
        hints = self._hints
        awaited = set(hints.recent[:_ANCHORS])
        while await self._page():
            latest = self._met[-PAGE:]
            awaited.difference_update(_mark(name) for name, _ in latest)
            lowest = _timed(latest)[-_ENOUGH:]
            is_past = len(lowest) == _ENOUGH and max(lowest) < (hints.horizon or 0.0)
            if not awaited and is_past and self.order == "newest":
                return True
        return False

    async def _to_end(self, after: str) -> None:
        self._last, self._at = after, None
        while await self._page():
            pass

    async def _page(self) -> bool:
        """Read one more page where there is one; say whether there was, and there is another."""
        if not self._left or not self._more:
            return False
        self._left -= 1
        found, known, seen = self._found, self._known, self._seen
        page = await self._read(self._last or None)
        found.unusable += page.unusable
        start = len(self._met)
        for item in page.items:
            name = given if isinstance(given := item.get("id"), str) else ""
            is_known = name and known and _mark(name) in known
            event = None if is_known else parse_event(item)
            at = as_moment(item.get("created_at")) if event is None else event.at
            if name:
                self._met.append((name, at))
            if at is not None:
                if self._at is not None:
                    self._up += at > self._at
                    self._down += at < self._at
                self._at = at
            if event is None:
                found.unusable += not is_known
                continue
            if event.step is None:
                data = item.get("data")
                found.stepless += isinstance(data, Mapping) and bool(metrics_of(data))
            first = seen.setdefault(event.key, event)
            # An id that comes again is left out only where it brings no value of its own.
            if (
                first is event
                or first.step != event.step
                or not event.metrics.keys() <= first.metrics.keys()
            ):
                found.events.append(event)
        if not page.has_more:
            self._more = False
            return False
        # Where an id repeats, a service that goes on after its first place would come back here
        # for ever: every id is continued after once, the last of the page before others.
        ids = (name for name, _ in reversed(self._met[start:]) if name not in self._used)
        place = next(ids, None)
        if place is None:
            found.looped, self._more = True, False
            return False
        self._last = place
        self._used.add(place)
        return True

    def result(self, *, full: bool) -> EventRead:
        """Return what was read, with the hints for the next read."""
        found, hints, met = self._found, self._hints, self._met
        found.events.sort(key=lambda one: (one.at or 0.0, -1 if one.step is None else one.step))
        found.unfinished = self._more
        rest = self._last if self._more else ""
        order = self.order or hints.order
        found.hints = Hints(order, after=rest, ending=full and self._more)
        if order == "newest":
            if timed := _timed(met[:PAGE]):
                found.hints.horizon = min(timed[:_ANCHORS]) - LATE_S
            found.hints.recent = [_mark(name) for name, _ in met[:PAGE]]
        elif order == "oldest":
            place = self._settled()
            if place >= 0:
                found.hints.after = met[place][0]
            elif met and not rest and hints.order == "oldest":
                found.hints.after = hints.after  # nothing that came after it is settled yet
            if place >= 0 or not rest:
                following = met[place + 1 : place + 1 + PAGE]
                found.hints.recent = [_mark(name) for name, _ in following]
        return found

    def _settled(self) -> int:
        """Return the place of the last event of an oldest-first listing before which nothing will
        come, with enough events after it to show the order; -1 where there is none yet."""
        horizon = min(_timed(self._met[-PAGE:])[-_ANCHORS:], default=0.0) - LATE_S
        later: set[float] = set()
        for place in range(len(self._met) - 1, -1, -1):
            at = self._met[place][1]
            if at is None:
                continue
            if at < horizon and len(later) > _ENOUGH:
                return place
            later.add(at)
        return -1


def _mark(name: str) -> int:
    return zlib.crc32(name.encode("utf-8", "replace"))


def _timed(met: list[tuple[str, float | None]]) -> list[float]:
    return [at for _, at in met if at is not None]
