"""One look at one key: prove its newest version, take its rotation further, send dependents.

A rotation with keys that the app makes itself goes on with every look: one that is due begins,
one that was interrupted resumes.
"""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from finetune_wandb.accounts import notify, ports
from finetune_wandb.flows.app import App
from finetune_wandb.keys import in_use as keys
from finetune_wandb.keys.rotation import rotate, rotation_findings
from finetune_wandb.model.accounts.account import RelayAccount
from finetune_wandb.model.accounts.key import KeyMint, KeyReport
from finetune_wandb.model.accounts.ports import AccountStore
from finetune_wandb.model.errors import AppError, MissingError
from finetune_wandb.model.messages import KeyMessage, account_messages
from finetune_wandb.model.relay.job import TERMINAL
from finetune_wandb.model.relay.ports import CursorsPort, JobsPort
from finetune_wandb.model.secret import SecretRef
from finetune_wandb.model.work import Source, problem_of

log = logging.getLogger(__name__)

_MOST_ATTEMPTS: Final = 10
"""After these the drift timer keeps looking."""
_FIRST_PAUSE_S: Final = 5.0
_LONGEST_PAUSE_S: Final = 1800.0


async def handle(message: KeyMessage, app: App) -> KeyReport:
    """Look at a secret's newest version; send its dependents when something is new."""
    secret = message.ref
    report = await _look(message, app)
    if await _rotates(secret, app):
        report = await _look(msgspec.structs.replace(message, sent_at=app.clock()), app)
    if (report.retry_after_s is not None or report.temporary) and message.attempt < _MOST_ATTEMPTS:
        pause = report.retry_after_s or _FIRST_PAUSE_S * 2**message.attempt
        later = msgspec.structs.replace(message, attempt=message.attempt + 1)
        await app.queues.send([later], delay_s=min(pause, _LONGEST_PAUSE_S))
    if await notify.key_news(report, now=app.now(), keys=app.reconcile.keys):
        # Sent before the news counts as published: a host that dies in between comes here again.
        await _send_dependents(report, app)
        await notify.notify_key(report, now=app.now(), keys=app.reconcile.keys, notices=app.notices)
    log.info(
        "key %s: version in use %s (%s)",
        secret,
        report.record.version or "none",
        ", ".join(item.cause for item in report.findings) or "-",
    )
    return report


async def _send_dependents(report: KeyReport, app: App) -> None:
    """Send the accounts that use this key and were not checked since it was looked at."""
    since = report.record.checked_at
    accounts = [
        entry.id
        for entry in await app.accounts.list_all()
        if entry.secret == report.record.secret
        and entry.in_scope
        and not entry.deleted
        and (since is None or entry.checked_at < since)
    ]
    await app.queues.send(account_messages(accounts, trigger="key", now=app.clock()))


async def _look(message: KeyMessage, app: App) -> KeyReport:
    """Look at the key, or share a look that was begun after the message was sent."""
    now = app.now()
    return await app.reconcile.shared.get(
        ports.key_key(message.ref),
        lambda: keys.prove_newest(
            message.ref,
            ports=app.reconcile,
            settings=app.settings,
            now=now,
            trigger=message.trigger,
        ),
        now=now,
        fresh_after=datetime.fromtimestamp(message.sent_at, UTC),
        keep=lambda report: not report.temporary,
    )


async def _rotates(secret: SecretRef, app: App) -> bool:
    """Take a secret's rotation as far as it gets now; return whether there was one.

    What went wrong is in the status; a look at the key never fails for it.
    """
    try:
        mint = await rotate(secret, ports=app.rotation, settings=app.settings)
    except AppError as error:
        log.warning("rotation of %s: %s", secret, error.message)
        lost = AppError(
            "the table of rotations cannot be used",
            remedy="check the app's rights on its storage account; the next look tries again",
        )
        await app.problems.note(problem_of(lost, Source.ROTATION, str(secret)))
        return False
    if mint is None:
        return False
    causes = ", ".join(item.cause for item in rotation_findings(mint))
    log.info("rotation of %s: %s (%s)", secret, mint.state, causes)
    return True


@dataclass(frozen=True, slots=True)
class NativeJobs:
    """Looks whether jobs that carry their own W&B integration still work with a key that was rotated.

    Azure reads the key when such a job begins and keeps it until the job ends; the relay leaves
    these jobs alone, so Azure is asked what has become of them. In doubt they are running.
    """

    accounts: AccountStore
    cursors: CursorsPort
    jobs: JobsPort

    async def use_old_key(self, mint: KeyMint) -> bool:
        """Return whether a job of an account that uses this secret still has the old key.

        Raises TemporaryError when the app's own tables cannot be read.
        """
        switched_at = mint.switched_at.timestamp() if mint.switched_at else float("inf")
        for account in await self.accounts.list_for_relay():
            if account.secret != mint.secret:
                continue
            for cursor in await self.cursors.list_cursors(account.key):
                if (
                    cursor.relay_state == "skipped"
                    and (cursor.created_at is None or cursor.created_at <= switched_at)
                    and cursor.status not in TERMINAL
                    and await self._runs(account, cursor.job)
                ):
                    return True
        return False

    async def _runs(self, account: RelayAccount, job: str) -> bool:
        try:
            return (await self.jobs.read_job(account, job)).get("status") not in TERMINAL
        except MissingError:
            return False
        except AppError:
            return True
