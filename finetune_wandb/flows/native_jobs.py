"""Whether fine-tuning jobs that carry their own W&B integration still work with an old key.

Azure reads the key when such a job begins and keeps it until the job ends; the relay leaves
these jobs alone, so that Azure is asked what has become of them. In doubt they are running.
"""

from finetune_wandb.model.account import RelayAccount
from finetune_wandb.model.errors import AppError, MissingError
from finetune_wandb.model.job import TERMINAL
from finetune_wandb.model.key import KeyMint
from finetune_wandb.model.ports import AccountStore
from finetune_wandb.model.relay_ports import CursorsPort, JobsPort


class NativeJobs:
    """Looks at the jobs that were begun before a rotation."""

    def __init__(self, accounts: AccountStore, cursors: CursorsPort, jobs: JobsPort) -> None:
        self._accounts = accounts
        self._cursors = cursors
        self._jobs = jobs

    async def use_old_key(self, mint: KeyMint) -> bool:
        """Return whether a job of an account that uses this secret still has the old key.

        Raises TemporaryError when the app's own tables cannot be read.
        """
        for account in await self._accounts.list_for_relay():
            if account.secret == mint.secret and await self._any_runs(account, mint):
                return True
        return False

    async def _any_runs(self, account: RelayAccount, mint: KeyMint) -> bool:
        switched_at = mint.switched_at.timestamp() if mint.switched_at else float("inf")
        for cursor in await self._cursors.list_cursors(account.key):
            old = cursor.created_at is None or cursor.created_at <= switched_at
            if (
                cursor.relay_state == "skipped"
                and old
                and cursor.status not in TERMINAL
                and await self._runs(account, cursor.job)
            ):
                return True
        return False

    async def _runs(self, account: RelayAccount, job: str) -> bool:
        try:
            return (await self._jobs.read_job(account, job)).get("status") not in TERMINAL
        except MissingError:
            return False
        except AppError:
            return True
