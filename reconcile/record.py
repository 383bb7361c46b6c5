"""Keeps a report and tells people what changed, once per change.

People are told of settled states only: a pause at Azure is no news. The id of a notice follows
from what it says and when that was last said, so that one sent twice can be told from two.
"""

import uuid
from dataclasses import replace
from datetime import datetime

from model.errors import AppError
from model.key import KeyReport
from model.notice import NoticeType, OutgoingNotice
from model.plan import AccountEntry, AccountReport, StepOutcome
from model.ports import AccountStore, NoticePort


async def record_report(
    report: AccountReport, *, accounts: AccountStore, notices: NoticePort
) -> AccountReport:
    """Store the report after telling what is new in it; return it as stored.

    A notice that could not be sent is sent by a later pass. Raises TemporaryError when the
    table cannot be read or written.
    """
    before = await accounts.read(report.id)
    told = await _tell(before, report, notices)
    stored = replace(report, told_healthy=told)
    await accounts.write(stored)
    return stored


async def _tell(
    before: AccountEntry | None, report: AccountReport, notices: NoticePort
) -> bool | None:
    told = before.told_healthy if before else None
    try:
        for item in account_notices(before, report):
            await notices.publish(item)
    except AppError:
        return told
    return report.healthy if _tellable(before, report) else told


def _tellable(before: AccountEntry | None, report: AccountReport) -> bool:
    """Whether the report says something that will stay so until somebody acts."""
    looked_after = report.in_scope if report.readable else bool(before and before.in_scope)
    return report.settled and looked_after and not report.deleted


def account_notices(before: AccountEntry | None, report: AccountReport) -> list[OutgoingNotice]:
    """Return what is to be told: a change of health, and steps that failed for good."""
    if not _tellable(before, report):
        return []
    told = before.told_healthy if before else None
    since = before.checked_at if before else None
    found: list[OutgoingNotice] = []
    if told is not report.healthy:
        kind: NoticeType = (
            "WandbRelay.AccountHealthy" if report.healthy else "WandbRelay.AccountUnhealthy"
        )
        found.append(_account_notice(kind, report, since))
    already = {
        (item.step.kind, item.code) for item in (before.steps if before else ()) if _failed(item)
    }
    if any((item.step.kind, item.code) not in already for item in report.steps if _failed(item)):
        found.append(_account_notice("WandbRelay.StepFailed", report, since))
    return found


def _failed(item: StepOutcome) -> bool:
    return item.state == "failed"


def _account_notice(
    kind: NoticeType, report: AccountReport, since: datetime | None
) -> OutgoingNotice:
    return OutgoingNotice(
        id=_id(kind, report.key, since.isoformat() if since else ""),
        type=kind,
        subject=str(report.id),
        time=report.checked_at,
        data={
            "account": str(report.id),
            "name": report.name,
            "healthy": report.healthy,
            "mode": report.mode,
            "findings": [item.to_json() for item in report.findings if item.severity != "ok"],
            "steps": [item.to_json() for item in report.steps],
        },
    )


async def record_key(report: KeyReport, *, now: datetime, notices: NoticePort) -> None:
    """Tell that a version was taken up or refused, when that is news. Never raises for a topic
    that cannot be reached: the audit and the status hold the same."""
    if not report.noted:
        return
    kind: NoticeType = "WandbRelay.KeyAccepted" if report.accepted else "WandbRelay.KeyRefused"
    notice = OutgoingNotice(
        id=_id(kind, report.vault_host, report.secret, report.newest_version, now.isoformat()),
        type=kind,
        subject=f"https://{report.vault_host}/secrets/{report.secret}",
        time=now,
        data={
            "vault": report.vault_host,
            "secret": report.secret,
            "version": report.newest_version,
            "in_use": report.record.version,
            "entity": report.record.entity,
            "findings": [item.to_json() for item in report.findings if item.severity != "ok"],
        },
    )
    try:
        await notices.publish(notice)
    except AppError:
        return


def _id(*parts: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "|".join(parts)))
