"""One look at one account: check it, apply its plan, end its runs where it is gone, report.

What is not ready yet is put off by a delayed message; nothing here waits.
"""

import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from finetune_wandb.accounts import notify
from finetune_wandb.accounts.reconcile import reconcile_account
from finetune_wandb.flows.app import App
from finetune_wandb.model.accounts.report import AccountReport
from finetune_wandb.model.audit import AuditEntry, Occasion
from finetune_wandb.model.messages import AccountMessage, key_message
from finetune_wandb.model.telemetry import pairs
from finetune_wandb.relay.passes.closing import ACCOUNT_DELETED, OUT_OF_SCOPE, Reason, close_runs

log = logging.getLogger(__name__)

_KEPT: Final = (
    *("deleted", "in_scope", "healthy", "mode", "principal_id"),
    *("entity", "project", "secret", "endpoint"),
)
"""What the audit tells of an account when it changes."""
_CONFIRM_S: Final = 5.0
_FIRST_PAUSE_S: Final = 15.0
_LONGEST_PAUSE_S: Final = 1800.0
_MOST_ATTEMPTS: Final = 8
"""After these the drift timer keeps looking, for a day after the deletion."""


async def handle(message: AccountMessage, app: App) -> AccountReport:
    """Check one account and, where allowed, apply its plan; return the report as stored."""
    target = message.target
    async with app.reconcile.shared.turn(target.key):
        before = await app.accounts.read(target)
        report = await reconcile_account(
            target,
            ports=app.reconcile,
            settings=app.settings,
            now=app.now(),
            apply=message.apply,
            fresh_after=datetime.fromtimestamp(message.sent_at, UTC),
            native_seen=before is not None and before.native_seen,
            attempt=message.attempt,
            occasion=Occasion(message.trigger, message.by),
        )
        if report.deleted and not _is_confirmed(before, message):
            # One replica of Azure may not know a new account yet: a second read decides.
            report = replace(report, deleted=False, settled=False, retry_after_s=_CONFIRM_S)
        if entry := _seen_change(before, report, message):
            await app.audit.write(entry)
        stored = await notify.save_and_notify(report, accounts=app.accounts, notices=app.notices)
        # Jobs of an account that comes back go on by themselves once they are listed.
        if before is not None and message.apply and (reason := _ends_runs(report)):
            await _close(before, reason, message, app)
    if report.retry_after_s is not None:
        await app.queues.send([message.deferred()], delay_s=report.retry_after_s)
    secret = report.secret
    if report.in_scope and secret and notify.is_untold(await app.reconcile.keys.read(secret)):
        # Subscribers are notified of what this look found out about the key.
        await app.queues.send([key_message(secret, trigger="account pass", now=app.clock())])
    _report(stored, app)
    return stored


def _seen_change(
    before: AccountReport | None, report: AccountReport, message: AccountMessage
) -> AuditEntry | None:
    """Return the entry of what differs from the last pass, None where nothing does."""
    if not (report.readable or report.deleted):
        return None
    if (before is None or before.deleted) and (report.deleted or notify.is_other_kind(report)):
        # No entry is kept of it, so that it would be a change again with every pass.
        return None
    names = ("deleted",) if report.deleted else _KEPT
    was, now = ({name: _text(one, name) for name in names} for one in (before, report))
    changed = {name: f"{was[name]} -> {now[name]}" for name in names if was[name] != now[name]}
    if not changed:
        return None
    return AuditEntry(
        at=report.checked_at,
        action="account_changed",
        subject=str(report.id),
        outcome="seen",
        trigger=message.trigger,
        by=message.by,
        detail=changed,
    )


def _text(report: AccountReport | None, name: str) -> str:
    value = getattr(report, name, "")
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _is_confirmed(before: AccountReport | None, message: AccountMessage) -> bool:
    """Return whether an earlier read did not find the account either."""
    if before is None:
        return message.attempt > 0
    return before.deleted or any(item.cause == "account_missing" for item in before.findings)


def _ends_runs(report: AccountReport) -> Reason | None:
    """Return why the account's open runs have to end, None where they go on."""
    if report.deleted:
        return ACCOUNT_DELETED
    is_relayed = report.in_scope and report.endpoint and report.project and report.secret
    return OUT_OF_SCOPE if report.readable and not is_relayed else None


async def _close(entry: AccountReport, reason: Reason, message: AccountMessage, app: App) -> None:
    # An account whose own choice of a secret was not allowed has only the default key.
    account = entry.for_relay(entry.secret or app.settings.default_secret)
    closed = await close_runs(account, app.relay, reason, now=app.clock())
    if closed.ended:
        log.info("account %s: %d open runs ended: %s", entry.id, closed.ended, reason.text)
    if closed.waiting and message.attempt < _MOST_ATTEMPTS:
        pause = min(_FIRST_PAUSE_S * 2**message.attempt, _LONGEST_PAUSE_S)
        await app.queues.send([message.deferred()], delay_s=pause)


def _report(report: AccountReport, app: App) -> None:
    """Log and count what one pass over an account found and did."""
    for finding in report.findings:
        if finding.severity != "ok":
            app.telemetry.count(
                "account.findings", 1, cause=finding.cause, severity=finding.severity
            )
    blocked = [one.cause for one in report.findings if one.severity == "blocked"]
    failed = [step.step.kind for step in report.steps if step.state == "failed"]
    log.log(
        logging.WARNING if blocked or failed else logging.INFO,
        "account %s: %s, %d steps, %s",
        report.key,
        "healthy" if report.healthy else "not healthy",
        len(report.steps),
        pairs(mode=report.mode, blocked=",".join(blocked), failed=",".join(failed)),
    )
