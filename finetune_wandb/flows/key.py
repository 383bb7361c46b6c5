"""One look at one key: prove its newest version, take its rotation further, send dependents.

A rotation with keys that the app makes itself goes on with every look: one that is due begins,
one that was interrupted resumes.
"""

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from finetune_wandb.accounts import notify
from finetune_wandb.flows.app import App
from finetune_wandb.keys import in_use as keys
from finetune_wandb.keys.rotation import rotate, rotation_findings
from finetune_wandb.model.accounts.account import RelayAccount
from finetune_wandb.model.accounts.key import KeyReport
from finetune_wandb.model.accounts.ports import AccountStore
from finetune_wandb.model.errors import AppError
from finetune_wandb.model.messages import KeyMessage, account_messages
from finetune_wandb.model.relay.job import TERMINAL, as_number
from finetune_wandb.model.relay.ports import Listing
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
        message.ref,
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
    """Looks whether jobs that carry their own W&B integration still work with a key that was replaced.

    Azure reads the key when such a job begins and keeps it until the job ends, whether or not the
    relay follows the job or its account. In doubt they are running.
    """

    accounts: AccountStore
    pages: Callable[[RelayAccount], AsyncIterator[Listing]]
    """Yields an account's jobs as Azure lists them."""

    async def use_old_key(self, secret: SecretRef, until: datetime) -> bool:
        """Return whether a job that began before `until`, on an account that names this secret,
        still runs with its own integration.

        Raises TemporaryError when the table of accounts cannot be read.
        """
        for entry in await self.accounts.list_all():
            # One whose tags ask for what is not allowed had another secret before.
            if entry.secret in (secret, None) and entry.endpoint and not entry.deleted:
                try:
                    if await self._any_runs(entry.for_relay(secret), until.timestamp()):
                        return True
                except AppError:
                    return True
        return False

    async def _any_runs(self, account: RelayAccount, until: float) -> bool:
        async for page in self.pages(account):
            for job in page.items:
                began_at = as_number(job.get("created_at"))
                if (
                    job.get("integrations")
                    and job.get("status") not in TERMINAL
                    and (began_at is None or began_at <= until)
                ):
                    return True
        return False
