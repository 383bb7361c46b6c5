"""Keeps a report and tells people what changed, once per change.

People are told of settled states only: a pause at Azure is no news. The id of a notice follows
from what it says and when that was last said, so that one sent twice can be told from two.
"""

import uuid
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

import msgspec

from finetune_wandb.keys.proof import nearness
from finetune_wandb.model.accounts.key import KeyRecord, KeyReport
from finetune_wandb.model.accounts.ports import (
    AccountStore,
    KeyStore,
    NoticePort,
    NoticeType,
    OutgoingNotice,
)
from finetune_wandb.model.accounts.report import AccountReport, open_findings
from finetune_wandb.model.errors import AppError


async def save_and_notify(
    report: AccountReport, *, accounts: AccountStore, notices: NoticePort
) -> AccountReport:
    """Store the report after telling what is new in it; return it as stored.

    A notice that could not be sent is sent by a later pass. Raises TemporaryError when the
    table cannot be read or written.
    """
    before = await accounts.read(report.id)
    told = before.told_healthy if before else None
    if before is not None and before.deleted and report.deleted:
        # The entry is closed already and keeps the time at which that was found.
        return replace(report, told_healthy=told)
    with suppress(AppError):
        for item in account_notices(before, report):
            await notices.publish(item)
        told = report.healthy if _tellable(before, report) else told
    stored = replace(report, told_healthy=told)
    await accounts.write(stored)
    return stored


def _tellable(before: AccountReport | None, report: AccountReport) -> bool:
    """Whether the report says something that stays until a person acts."""
    looked_after = report.in_scope if report.readable else bool(before and before.in_scope)
    return report.settled and looked_after and not report.deleted


def account_notices(before: AccountReport | None, report: AccountReport) -> list[OutgoingNotice]:
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
    failed, already = (
        {(item.step.kind, item.code) for item in steps if item.state == "failed"}
        for steps in (report.steps, before.steps if before else ())
    )
    if failed - already:
        found.append(_account_notice("WandbRelay.StepFailed", report, since))
    return found


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
            "findings": msgspec.to_builtins(open_findings(report.findings)),
            "steps": msgspec.to_builtins(report.steps),
        },
    )


async def key_news(report: KeyReport, *, now: datetime, keys: KeyStore) -> KeyRecord | None:
    """Return the record that holds news of a key that was not published yet, None for none.

    It does not matter whether a look at the key or a pass over an account found the news.
    """
    record = await keys.read(report.record.secret)
    if record is None or record.news != report.record.news:
        # Somebody has looked since: theirs is to be told.
        return None
    return record if record.news and _news(record, now) != record.told else None


async def notify_key(
    report: KeyReport, *, now: datetime, keys: KeyStore, notices: NoticePort
) -> bool:
    """Tell what is new about a key since people were told last; say whether anything was.

    Where the topic cannot be reached a later look tells it.
    """
    record = await key_news(report, now=now, keys=keys)
    if record is None:
        return False
    news = _news(record, now)
    notice = _key_notice(report, record, news, now)
    try:
        if notice is not None:
            await notices.publish(notice)
        await keys.write(replace(record, told=news))
    except AppError:
        return True
    return True


def _news(record: KeyRecord, now: datetime) -> str:
    return f"{record.news}|{nearness(record.expires_at, now)}"


def is_untold(record: KeyRecord | None) -> bool:
    """Return whether something was found about a key that people were not told."""
    return record is not None and record.told.rpartition("|")[0] != record.news


def _key_notice(
    report: KeyReport, record: KeyRecord, news: str, now: datetime
) -> OutgoingNotice | None:
    kind: NoticeType = "WandbRelay.KeyRefused"
    if record.newest_cause == "key_accepted" and record.refused_at is None:
        kind = "WandbRelay.KeyAccepted"
    if not is_untold(record):
        if not nearness(record.expires_at, now):
            return None
        kind = "WandbRelay.KeyExpiring"
    checked_at = record.checked_at.isoformat() if record.checked_at else ""
    return OutgoingNotice(
        id=_id(kind, *record.secret.key, record.told, news, checked_at),
        type=kind,
        subject=f"https://{record.secret}",
        time=now,
        data={
            "vault": record.secret.vault.host,
            "secret": record.secret.name,
            "version": record.newest_version,
            "in_use": record.version,
            "entity": record.entity,
            "findings": msgspec.to_builtins(open_findings(report.findings)),
        },
    )


def _id(*parts: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "|".join(parts)))
