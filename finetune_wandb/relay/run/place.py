"""Where a job's run is, and whether W&B has its attributes as they are now."""

import zlib

from finetune_wandb.model.account import RelayAccount
from finetune_wandb.model.cursor import Cursor, RunPath
from finetune_wandb.model.errors import RejectedError
from finetune_wandb.model.job import Job
from finetune_wandb.model.relay_ports import RunKey, SinkPort
from finetune_wandb.relay.passes.memory import Memory
from finetune_wandb.relay.run.attributes import path_problem, run_attributes, run_path, run_suffix


class RunPlace:
    """The run of one job in one pass."""

    def __init__(
        self, job: Job, account: RelayAccount, memory: Memory, sink: SinkPort, key: RunKey
    ) -> None:
        self._job = job
        self._account = account
        self._memory = memory
        self._sink = sink
        self._key = key
        self._hashed: tuple[tuple[bool, RunPath | None], int] | None = None

    def choose(self, cursor: Cursor) -> None:
        """Say where the run belongs, until W&B has it there. Raises RejectedError."""
        if cursor.run is not None and self._memory.attributes is not None:
            return
        run = run_path(
            self._job,
            self._account,
            key_entity=self._key.entity,
            suffix=run_suffix(self._job, self._memory.generation),
        )
        if problem := path_problem(run):
            raise RejectedError(
                problem,
                subject=self._job.id,
                code="project",
                remedy="mend the name where it comes from: the job's W&B integration or metadata, the"
                " account's tags wandb-project and wandb-entity, or WANDB_PROJECT and WANDB_ENTITY",
            )
        cursor.run = run

    def differs(self, cursor: Cursor, *, pending: bool) -> bool:
        """Whether W&B has other attributes than the run has now, or none."""
        return self._hash(cursor, pending) != self._memory.attributes

    async def ensure(self, cursor: Cursor, *, pending: bool) -> RunPath:
        """Create the run or bring its attributes up to date, where they differ."""
        assert cursor.run is not None, "a place is chosen before anything is sent there"
        if self.differs(cursor, pending=pending):
            memory = self._memory
            attributes = run_attributes(
                self._job, self._account, asked=memory.asked or {}, files=memory.files
            )
            cursor.run = await self._sink.ensure_run(
                cursor.run, attributes, pending=pending, key=self._key
            )
            # The server may have answered another spelling; the hash is of what stands now.
            memory.attributes = self._hash(cursor, pending)
            cursor.state = {**cursor.state, "attributes": memory.attributes}
        return cursor.run

    def _hash(self, cursor: Cursor, pending: bool) -> int:
        """Return a sum of all that the attributes are made of; cheaper than making them."""
        state = (pending, cursor.run)
        if self._hashed is None or self._hashed[0] != state:
            account = self._account
            parts = (
                *state,
                self._job,
                self._memory.asked,
                self._memory.files,
                (str(account.id), account.region, account.subscription),
            )
            self._hashed = (state, zlib.crc32(repr(parts).encode("utf-8", "replace")))
        return self._hashed[1]
