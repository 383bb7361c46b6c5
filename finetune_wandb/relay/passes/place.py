"""Which W&B run a job has, and what W&B shows of it: attributes, that it is alive, its end.

A run that was there before, from another deployment or tool, is never written into: the job
takes the next generation of its run id. Chosen once, and saved before anything is sent there.
W&B calls a run crashed after about five minutes of silence. So beats go out with every tick, also
while Azure cannot be read or the job is parked. They claim nothing and are not stored; the process
remembers when it sent the last one.
"""

import json
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import orjson

from finetune_wandb.model.accounts.account import RelayAccount
from finetune_wandb.model.errors import (
    AppError,
    MissingError,
    RejectedError,
    TemporaryError,
    UnavailableError,
)
from finetune_wandb.model.relay.cursor import Cursor, RunPath
from finetune_wandb.model.relay.job import Job
from finetune_wandb.model.relay.ports import EnsuredRun, RunAttributes, RunKey, RunSeen, SinkPort
from finetune_wandb.relay.passes.memory import Memory
from finetune_wandb.relay.passes.outbox import HEARTBEAT, count_items, cut, stand_in
from finetune_wandb.relay.ports import RelayPorts, joined_notes
from finetune_wandb.relay.run.attributes import path_problem, run_attributes, run_path, with_tags

HEARTBEAT_S: Final = 30.0
"""W&B is told unless it heard of the run this recently: with a tick a minute, gaps stay below 90 s."""
_COUNTED_S: Final = 15.0
"""W&B's counters of rows and lines lag by seconds; they count this long after a request."""
_OF_CONTENT: Final = frozenset({"400", "413", "422"})
"""Codes of a request that W&B refuses for what it holds."""
_OF_PLACE: Final = frozenset({"403", "entity", "project"})
"""Codes of a refused project or entity."""
_MOST_REQUESTS: Final = 100
"""For one outbox and pass: at W&B's pace they take under a minute."""
_MOST_GENERATIONS: Final = 20
_OPEN_STATES: Final = frozenset({"running", "pending", "crashed", "preempting", "preempted"})


@dataclass
class RunPlace:
    """The run of one job in one pass."""

    job: Job
    account: RelayAccount
    memory: Memory
    sink: SinkPort
    key: RunKey
    _is_chosen: bool = field(default=False, init=False)
    _has_made: bool = field(default=False, init=False)
    """W&B has the run, and this job's app made it."""

    async def choose(self, cursor: Cursor) -> str:
        """Choose the run until W&B has it; return a note where a taken id was passed over.

        Raises RejectedError for a name that W&B cannot take, and what the sink raises.
        """
        memory = self.memory
        if self._is_chosen or (cursor.run is not None and memory.attributes is not None):
            return ""
        first, stored = memory.generation, cursor.run if cursor.etag else None
        for generation in range(first, first + _MOST_GENERATIONS):
            run = self._path(generation)
            found = await self.sink.read_run(run, key=self.key)
            self._has_made = found is not None and self._is_ours(found, is_stored=run == stored)
            if found is None or self._has_made:
                cursor.run, memory.generation, self._is_chosen = run, generation, True
                break
            if run == stored:
                raise _not_ours(run)  # with what was claimed for it
        else:
            raise RejectedError(
                "W&B has runs under every id that this job could take",
                subject=self.job.id,
                code="taken",
                remedy="delete runs of this job that are not needed, or choose another project",
            )
        if generation == first:
            return ""
        taken = self._path(first).run_id
        return f"the run {taken} was there before; this job's run is {run.run_id}"

    def leaves(self, run: RunPath | None, error: AppError) -> bool:
        """Say whether W&B refuses this run's project or entity for the job, and job, account or
        settings name another by now."""
        if run is None or error.subject != str(run) or error.code not in _OF_PLACE:
            return False
        now = self._named(1)
        places = {f"{one.entity}/{one.project}".casefold() for one in (run, now)}
        return len(places) > 1 and not path_problem(now)

    def _named(self, generation: int) -> RunPath:
        entity = self.key.entity
        return run_path(self.job, self.account, key_entity=entity, generation=generation)

    def _path(self, generation: int) -> RunPath:
        run = self._named(generation)
        if problem := path_problem(run):
            raise RejectedError(
                problem,
                subject=self.job.id,
                code="project",
                remedy="fix the name at its source: the job's W&B integration or metadata, the account's"
                " tags wandb-project and wandb-entity, or WANDB_PROJECT and WANDB_ENTITY",
            )
        return run

    def _is_ours(self, found: RunSeen, *, is_stored: bool) -> bool:
        """Say whether an earlier pass of this job made the run and did not save that it had.

        One that is not stored as the job's must be empty. A run of an older version of the app
        has no `relay_id`.
        """
        config, relay_id = found.config, self.memory.relay_id
        mine = (self.job.id, str(self.account.id), relay_id)
        has = (config.get("job_id"), config.get("account_id"), config.get("relay_id", relay_id))
        is_empty = not found.rows and not found.lines
        return found.is_relayed and has == mine and (is_stored or is_empty)

    async def verify(self, cursor: Cursor, now: float) -> None:
        """Ask whether W&B still has the run. Raises MissingError `gone` where it does not.

        A run that cannot be seen is asked for by creating it: only an answer that it was made
        just now proves that the old one is gone. `now` is unix seconds.
        """
        assert cursor.run is not None, "only a run that was chosen can be asked for"
        run = cursor.run
        found = await self.sink.read_run(run, key=self.key)
        if found is None:
            # Should it be there all the same, what people wrote on it stays.
            bare = with_tags(self._attributes, None)
            ensured = await self.sink.ensure_run(
                run, bare, is_new=False, pending=False, key=self.key
            )
            if ensured.inserted:
                raise _gone(run)
            # The first answer may have been lost: a repeated request reports an old run.
            found = await self.sink.read_run(run, key=self.key)
        has_counted = now - cursor.posted_at >= _COUNTED_S
        if found is not None and cursor.rows and not found.rows and has_counted:
            # A pass that died may have made it anew and not said so.
            raise _gone(run)
        self.memory.doubted = False

    def differs(self, cursor: Cursor, *, pending: bool) -> bool:
        """Whether W&B has other attributes than the run has now, or none."""
        return self._hash(cursor, pending) != self.memory.attributes

    async def ensure(self, cursor: Cursor, *, pending: bool) -> None:
        """Create the run or bring its attributes up to date, where they differ.

        Raises RejectedError `other` where another deployment has made the run meanwhile, and
        MissingError `gone` where W&B had it and does not have it any more.
        """
        run = cursor.run
        assert run is not None, "a place is chosen before anything is sent there"
        if not self.differs(cursor, pending=pending):
            return
        if self.memory.attributes is None:
            ensured = await self._make(run, pending)
            if not ensured.inserted and not self._has_made:
                raise _not_ours(run)
        else:
            found = await self.sink.read_run(run, key=self.key)
            wanted = with_tags(self._attributes, found.tags if found else None)
            ensured = await self.sink.ensure_run(
                run, wanted, is_new=False, pending=pending, key=self.key
            )
            if ensured.inserted and cursor.rows:
                raise _gone(run)
        # The server may answer another spelling; the hash is of what stands now.
        cursor.run = ensured.path
        self.memory.attributes = self._hash(cursor, pending)

    async def _make(self, run: RunPath, pending: bool) -> EnsuredRun:
        """Create a run. Only the first answer says that it is new: after one that was lost, its
        config says who made it."""
        wanted, key = self._attributes, self.key
        try:
            return await self.sink.ensure_run(run, wanted, is_new=True, pending=pending, key=key)
        except TemporaryError:
            found = await self.sink.read_run(run, key=key)
            self._has_made = found is not None and self._is_ours(found, is_stored=True)
        return await self.sink.ensure_run(run, wanted, is_new=True, pending=pending, key=key)

    def _hash(self, cursor: Cursor, pending: bool) -> int:
        return zlib.crc32(orjson.dumps((pending, cursor.run, self._attributes)))

    @cached_property
    def _attributes(self) -> RunAttributes:
        memory = self.memory
        return run_attributes(
            *(self.job, self.account),
            asked=memory.asked or {},
            files=memory.files,
            relay_id=memory.relay_id,
        )


def _not_ours(run: RunPath) -> RejectedError:
    text = "W&B has a run of another deployment under this job's id; the job goes on in a new one"
    return RejectedError(text, subject=str(run), code="other")


def _gone(run: RunPath) -> MissingError:
    text = "W&B has the run no longer; it is written anew"
    return MissingError(text, subject=str(run), code="gone")


def beat_is_due(cursor: Cursor, memory: Memory, ports: RelayPorts, now: float) -> bool:
    """Say whether W&B has to hear that the run is alive. `now` is unix seconds."""
    known = cursor.run is not None and memory.attributes is not None
    if not known or memory.ended or memory.doubted:
        return False
    last = max(cursor.posted_at, ports.beats.get((cursor.account, cursor.job), 0.0))
    return now - last >= HEARTBEAT_S


async def beat(cursor: Cursor, ports: RelayPorts, key: RunKey, now: float) -> bool:
    """Tell W&B that the run is alive; return whether someone pressed Stop on it."""
    assert cursor.run is not None, "only a run that was chosen is alive"
    stopped = await ports.sink.post(cursor.run, HEARTBEAT, key=key)
    ports.beats[cursor.account, cursor.job] = now
    return stopped


async def deliver(cursor: Cursor, sink: SinkPort, key: RunKey) -> bool:
    """Send the outbox; return whether someone pressed Stop on the run.

    What W&B refuses for its content is found by sending less at a time, and left out with a note.
    Where an error ends this, the outbox holds what is still to be sent.
    """
    run, most, stopped = cursor.run, 0, False
    assert run is not None, "only a run that was chosen is sent anything"
    for _ in range(_MOST_REQUESTS):
        part, rest = cut(cursor.outbox, most) if most else (cursor.outbox, b"")
        try:
            stopped = await sink.post(run, part, key=key) or stopped
        except RejectedError as error:
            if error.code not in _OF_CONTENT:
                raise
            if (items := count_items(part)) > 1:
                most = items // 2
                continue
            kept, what = stand_in(part)
            if not kept:
                raise
            # Refused as well where the content is not the reason: then nothing is left out.
            stopped = await sink.post(run, kept, key=key) or stopped
            note = f"W&B did not take {what}, which the run lacks: {error.message}"
            cursor.notes = joined_notes(cursor.notes, (note,))
        cursor.outbox = rest
        if not rest:
            return stopped
        most *= 2
    raise UnavailableError(
        "W&B refuses much of what the job published; it is sent piece by piece",
        subject=str(run),
        remedy="none needed: the next tick goes on; the job's notes name what W&B refuses",
    )


async def confirm_end(cursor: Cursor, memory: Memory, sink: SinkPort, key: RunKey) -> None:
    """Read a run that has its end; send it again where W&B shows another, or an older summary.

    A request of a slow worker that was begun before the end may have come after it, and tools
    that resume a finished run leave it open.
    """
    if cursor.run is None or not memory.end:
        return
    found = await sink.read_run(cursor.run, key=key)
    if found is not None and not _has_end(found, memory.end):
        cursor.outbox = memory.end.encode()
        await deliver(cursor, sink, key)


def _has_end(found: RunSeen, end: str) -> bool:
    """Say whether a run has this end and summary, as far as the server keeps them as they were."""
    if found.state in _OPEN_STATES:
        return False
    # The summary may hold a bare infinity, which W&B takes and orjson does not.
    files = orjson.loads(end).get("files")
    summary = json.loads(files["wandb-summary.json"]["content"][0]) if files else found.summary
    return all(found.summary.get(name) == summary.get(name) for name in ("_step", "step", "status"))
