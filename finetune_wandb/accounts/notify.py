"""Stores a report and publishes what changed, once per change.

Only settled states are published, not a temporary failure of Azure. A notice's id is made of its
content and the time of the previous notice, so a repeated notice carries the same id.
"""

import uuid
from collections.abc import Iterator
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
from finetune_wandb.model.accounts.report import AccountReport, Told, open_findings
from finetune_wandb.model.errors import AppError


async def save_and_notify(
    report: AccountReport, *, accounts: AccountStore, notices: NoticePort
) -> AccountReport:
    """Publish what is new in the report, then store it; return it as stored.

    A later pass sends a notice that could not be sent. Raises TemporaryError when the table
    cannot be read or written.
    """
    before = await accounts.read(report.id)
    told = before.told if before else None
    if before is not None and before.deleted and report.deleted:
        # The entry was closed before, and keeps the time of that.
        return replace(report, told=told)
    causes = {item.cause for item in report.findings}
    if is_other_kind(report) or (before is None and "account_missing" in causes):
        # Never managed by the app, so not counted; an older version's entry is closed.
        await accounts.write(replace(report, deleted=True))
        return report
    failed = {f"{item.step.kind}|{item.code}" for item in report.steps if item.state == "failed"}
    known = Told(report.checked_at, report.healthy, tuple(sorted(failed)))
    with suppress(AppError):
        if _tellable(before, report):
            for item in _account_notices(report, told, known):
                await notices.publish(item)
            if told is None or (told.healthy, told.failures) != (known.healthy, known.failures):
                told = known
    stored = replace(report, told=told)
    await accounts.write(stored)
    return stored


def is_other_kind(report: AccountReport) -> bool:
    """Return whether the account is of a kind that cannot fine-tune."""
    return any(item.cause == "kind_not_supported" for item in report.findings)


def _tellable(before: AccountReport | None, report: AccountReport) -> bool:
    """Whether the report says something that stays until a person acts."""
    looked_after = report.in_scope if report.readable else bool(before and before.in_scope)
    return report.settled and looked_after and not report.deleted


def _account_notices(
    report: AccountReport, told: Told | None, known: Told
) -> Iterator[OutgoingNotice]:
    """Yield the notices: a change of health, and steps that failed permanently."""
    if told is None or told.healthy is not report.healthy:
        yield _account_notice(
            "WandbRelay.AccountHealthy" if report.healthy else "WandbRelay.AccountUnhealthy",
            report,
            told,
        )
    if set(known.failures) - set(told.failures if told else ()):
        yield _account_notice("WandbRelay.StepFailed", report, told, *known.failures)


def _account_notice(
    kind: NoticeType, report: AccountReport, told: Told | None, *what: str
) -> OutgoingNotice:
    return OutgoingNotice(
        id=_id(kind, report.key, told.at.isoformat() if told else "", *what),
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
    """Return the record if it holds unpublished news of a key, else None.

    It does not matter whether a look at the key or a pass over an account found the news.
    """
    record = await keys.read(report.record.secret)
    if record is None or record.news != report.record.news:
        # Another process has looked since, and publishes its own result.
        return None
    return record if record.news and _news(record, now) != record.told else None


async def notify_key(
    report: KeyReport, *, now: datetime, keys: KeyStore, notices: NoticePort
) -> None:
    """Publish what is new about a key since the last notice.

    If the topic cannot be reached, a later look publishes it.
    """
    record = await key_news(report, now=now, keys=keys)
    if record is not None:
        with suppress(AppError):
            for notice in _key_notices(report, record, now):
                await notices.publish(notice)
            await keys.write(replace(record, told=_news(record, now)))


def _news(record: KeyRecord, now: datetime) -> str:
    return f"{record.news}|{_nearness(record, now)}"


def _nearness(record: KeyRecord, now: datetime) -> str:
    return nearness(record.expires_at, now) if record.version else ""


def is_untold(record: KeyRecord | None) -> bool:
    """Return whether the last finding about a key was not published yet."""
    return record is not None and record.told.rpartition("|")[0] != record.news


def _key_notices(report: KeyReport, record: KeyRecord, now: datetime) -> Iterator[OutgoingNotice]:
    is_refused = record.newest_cause != "key_accepted" or record.refused_at is not None
    if is_untold(record):
        kind: NoticeType = "WandbRelay.KeyRefused" if is_refused else "WandbRelay.KeyAccepted"
        yield _key_notice(kind, report, record, now)
    if _nearness(record, now) and not (is_untold(record) and is_refused):
        yield _key_notice("WandbRelay.KeyExpiring", report, record, now)


def _key_notice(
    kind: NoticeType, report: KeyReport, record: KeyRecord, now: datetime
) -> OutgoingNotice:
    checked_at = record.checked_at.isoformat() if record.checked_at else ""
    return OutgoingNotice(
        id=_id(kind, *record.secret.key, record.told, _news(record, now), checked_at),
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
