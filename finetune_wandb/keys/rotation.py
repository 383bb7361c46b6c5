"""Rotation with a key that the app creates: when it is due, the switch, and the old key's end.

Every step is recorded before the next one begins, under a claim that one process holds at a
time. Wherever it is interrupted, the old key stays in use until a new one is proved. Which
version is in use is decided in `in_use.py` alone, as for a key that a person stored. An old key
is deleted only if the app created it and no record in use has the same value.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from finetune_wandb.keys.in_use import prove_newest
from finetune_wandb.keys.new_key import (
    SETTLING_S,
    TRIGGER,
    Rotation,
    RotationPorts,
    Stop,
    begin,
    clean_up,
    find_or_begin_again,
    make,
)
from finetune_wandb.keys.proof import is_refused
from finetune_wandb.model.accounts.key import KeyMint, KeyRecord, KeyReport
from finetune_wandb.model.accounts.report import Finding
from finetune_wandb.model.causes import finding
from finetune_wandb.model.errors import AppError, ConflictError, UnavailableError
from finetune_wandb.model.secret import Secret, SecretRef
from finetune_wandb.model.settings import Settings

_CLAIM: Final = timedelta(minutes=10)
"""How long one process may work on a rotation; far longer than all its calls take."""
_LONGEST_WAIT: Final = timedelta(days=30)
"""After the switch. Later, a job that still runs or an account whose jobs cannot be listed no
longer keeps the rotation open: the old key stays, and a person has to delete it."""


async def rotate(secret: SecretRef, *, ports: RotationPorts, settings: Settings) -> KeyMint | None:
    """Begin a rotation that is due, or continue one as far as possible.

    Returns the stored row; None if the settings do not ask for it, nothing is due, or another
    process works on it. Raises TemporaryError only when the app's own tables cannot be used.
    """
    if settings.rotation != "mint" or settings.apply_mode == "observe" or settings.why_not(secret):
        return None
    record = await ports.look.keys.read(secret)
    before = await ports.mints.read(secret)
    mint = before or KeyMint(secret=secret)
    now = ports.clock()
    if record is None or not record.version or not _has_work(mint, record, settings, now):
        return None
    rotation = Rotation(secret, ports=ports, settings=settings, record=record, stored=before)
    try:
        claim = replace(mint, claimed_until=now + _CLAIM, cause="", retry_at=None)
        mint = await rotation.write(claim)
        try:
            mint = await _advance(rotation, mint)
        except Stop as stop:
            mint = stop.mint
        except ConflictError:
            raise
        except AppError:
            mint = replace(rotation.stored or mint, cause="mint_unavailable")
        return await rotation.write(replace(mint, claimed_until=None))
    except ConflictError:
        # Another process took over; the row has everything it needs.
        return None


async def _advance(rotation: Rotation, mint: KeyMint) -> KeyMint:
    """Go through the states as far as possible. Raises Stop or our errors when it cannot go on."""
    if mint.state == "idle":
        mint = await make(rotation, await begin(rotation, mint))
    elif mint.state == "intent":
        mint = await make(rotation, await clean_up(rotation, mint))
    elif mint.state == "minted":
        mint = await find_or_begin_again(rotation, mint)
    if mint.state == "stored":
        mint = await _switch(rotation, mint)
    now = rotation.ports.clock()
    if mint.state == "switched" and _may_end(mint, rotation.record, rotation.settings, now):
        mint = await _end(rotation, mint)
    return mint


def _has_work(mint: KeyMint, record: KeyRecord, settings: Settings, now: datetime) -> bool:
    """Return whether a rotation should begin or continue now."""
    if any(until and now < until for until in (mint.claimed_until, mint.retry_at)):
        return False
    if mint.state == "idle":
        return _is_due(record, settings, now)
    if mint.state == "switched":
        return _may_end(mint, record, settings, now)
    return True


def _may_end(mint: KeyMint, record: KeyRecord, settings: Settings, now: datetime) -> bool:
    """Return whether the old key's time is over, or the next rotation is due and must not wait."""
    return _grace_is_over(mint, settings, now) or _is_due(record, settings, now)


def _is_due(record: KeyRecord, settings: Settings, now: datetime) -> bool:
    """Return whether the key in use expires soon enough to be replaced.

    A key with no expiry date is never due, and one that W&B refuses cannot create another.
    """
    if record.refused_at or record.disabled or record.expires_at is None:
        return False
    # At most half of its life before the end, or a new key would be due at once.
    days = min(settings.rotation_before_days, settings.rotation_lifetime_days / 2)
    return record.expires_at - now <= timedelta(days=days)


def _grace_is_over(mint: KeyMint, settings: Settings, now: datetime) -> bool:
    grace = timedelta(hours=settings.rotation_grace_hours)
    return mint.switched_at is not None and now - mint.switched_at >= grace


async def _look(rotation: Rotation) -> KeyReport:
    report = await prove_newest(
        rotation.secret,
        ports=rotation.ports.look,
        settings=rotation.settings,
        now=rotation.ports.clock(),
        trigger=TRIGGER,
    )
    rotation.record = report.record
    return report


async def _switch(rotation: Rotation, mint: KeyMint) -> KeyMint:
    """Put the stored version into use like any other new one."""
    report = await _look(rotation)
    record = report.record
    if record.version == mint.version:
        switched_at = record.accepted_at or rotation.ports.clock()
        return await rotation.write(replace(mint, state="switched", switched_at=switched_at))
    if record.version != mint.old_version:
        # A person's key is in use, so the app's never will be.
        raise Stop(await rotation.discard(mint, "mint_overtaken", pause=False))
    if report.temporary:
        raise Stop(replace(mint, cause="mint_unavailable"))
    is_newest = report.newest_version == mint.version
    raise Stop(replace(mint, cause="mint_not_accepted" if is_newest else "mint_waits"))


async def _end(rotation: Rotation, mint: KeyMint) -> KeyMint:
    """Delete the old key if the app created it, once the new one works at this moment."""
    report = await _look(rotation)
    record = report.record
    if report.temporary or record.refused_at or record.version == mint.old_version:
        # The findings of the key in use say what is wrong with it.
        raise Stop(replace(mint, cause="rotation_grace"))
    now = rotation.ports.clock()
    switched_at = mint.switched_at or now
    doomed = {mint.old_version: mint.old_key_id}
    if record.version != mint.version:
        # A person has rotated since: the key that the app created is an old one too.
        doomed[mint.version] = mint.key_id
        switched_at = record.accepted_at or now
    is_used = not _grace_is_over(
        mint, rotation.settings, now
    ) or await rotation.ports.old_key_is_used(rotation.secret, switched_at)
    if (
        is_used
        and now - switched_at < _LONGEST_WAIT
        and not _is_due(record, rotation.settings, now)
    ):
        raise Stop(replace(mint, cause="old_key_used"))
    left = ""
    for version, key_id in doomed.items():
        # No id: a person created it. A key that may still be used stays, and nothing waits for it.
        if not is_used and key_id and await _retire(rotation, version, key_id):
            await rotation.note(version, "old_key_deleted")
        else:
            await rotation.note(version, "old_key_left")
            left = "old_key_left"
    return await rotation.write(replace(mint, state="idle", cause=left))


async def _retire(rotation: Rotation, version: str, key_id: str) -> bool:
    """Delete the key of an old version; return whether W&B refuses it from now on.

    It stays if a version in use, of any secret, has the same value or cannot be read.
    """
    secrets, keys = rotation.ports.look.secrets, rotation.ports.look.keys
    try:
        old = (await secrets.read_version(rotation.secret, version)).value
        for record in await keys.list_all():
            if record.version:
                used = await secrets.read_version(record.secret, record.version)
                if used.value == old:
                    return False
    except AppError:
        return False
    return await rotation.delete(key_id) and await _is_gone(rotation, old)


async def _is_gone(rotation: Rotation, key: Secret) -> bool:
    for pause in (*SETTLING_S, None):
        refused = await is_refused(key, rotation.ports.look)
        if refused or pause is None:
            break
        await rotation.ports.wait(pause)
    if refused is None:
        raise UnavailableError("W&B did not answer about the old key", subject=str(rotation.secret))
    return refused


def rotation_findings(mint: KeyMint) -> list[Finding]:
    """Return the findings about a secret's rotation."""
    evidence = {"vault": mint.secret.vault.name, "secret": mint.secret.name}
    under_way = "rotation_idle" if mint.state == "idle" else "rotation_under_way"
    cause = mint.cause or ("rotation_grace" if mint.state == "switched" else under_way)
    found = [finding(cause, **evidence, old_version=mint.old_version)]
    if mint.lost:
        found.append(finding("mint_lost", **evidence, names=", ".join(mint.lost)))
    return found
