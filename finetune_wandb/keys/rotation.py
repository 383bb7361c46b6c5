"""Rotation with a key that the app makes itself: make, prove, store, switch, delete the old one.

Every step is written down before the next one begins, under a claim that one process holds at a
time. Wherever it is interrupted, the old key stays in use until a new one is proved; a key whose
value was lost on the way is found again by its name and deleted. Which version is in use is
decided in `keys.py` alone, as for a key that a person stored.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Final

from finetune_wandb.keys.newest import prove_newest
from finetune_wandb.keys.rotation_make import begin, clean_up, find_or_begin_again, make
from finetune_wandb.keys.rotation_ports import RotationPorts
from finetune_wandb.keys.rotation_rules import grace_is_over, has_work
from finetune_wandb.keys.rotation_work import TRIGGER, Stop, Work
from finetune_wandb.model.errors import AppError, ConflictError
from finetune_wandb.model.key import KeyReport
from finetune_wandb.model.mint import TAG_ID, KeyMint
from finetune_wandb.model.secret import SecretRef
from finetune_wandb.model.settings import Settings

CLAIM: Final = timedelta(minutes=10)
"""How long one process may work on a rotation; far longer than its calls take together."""


async def rotate(secret: SecretRef, *, ports: RotationPorts, settings: Settings) -> KeyMint | None:
    """Begin a rotation that is due, or go on with one as far as it gets now.

    Returns what stands in the table afterwards, None where nothing was to be done or another
    process is at it. Raises TemporaryError only when the app's own tables cannot be used.
    """
    record = await ports.reconcile.keys.read(secret)
    before = await ports.mints.read(secret)
    mint = before or KeyMint(secret=secret)
    now = ports.clock()
    if record is None or not record.version or not has_work(mint, record, settings, now):
        return None
    work = Work(secret, ports=ports, settings=settings, record=record, stored=before)
    try:
        mint = await work.write(replace(mint, claimed_until=now + CLAIM, cause="", retry_at=None))
        try:
            mint = await _advance(work, mint)
        except Stop as stop:
            mint = stop.mint
        except ConflictError:
            raise
        except AppError:
            mint = replace(work.stored or mint, cause="mint_unavailable")
        return await work.write(replace(mint, claimed_until=None))
    except ConflictError:
        # Another process has taken it over; it finds everything in the row.
        return None


async def _advance(work: Work, mint: KeyMint) -> KeyMint:
    """Go through the states as far as possible. Raises Stop or our errors where it ends."""
    if mint.state == "idle":
        mint = await make(work, await begin(work, mint))
    elif mint.state == "intent":
        mint = await make(work, await clean_up(work, mint))
    elif mint.state == "minted":
        mint = await find_or_begin_again(work, mint)
    if mint.state == "stored":
        mint = await _switch(work, mint)
    if mint.state == "switched" and grace_is_over(mint, work.settings, work.ports.clock()):
        mint = await _end(work, mint)
    return mint


async def _look(work: Work) -> KeyReport:
    report = await prove_newest(
        work.secret,
        ports=work.ports.reconcile,
        settings=work.settings,
        now=work.ports.clock(),
        trigger=TRIGGER,
    )
    work.record = report.record
    return report


async def _switch(work: Work, mint: KeyMint) -> KeyMint:
    """Have the stored version taken into use, as any other that is new."""
    report = await _look(work)
    record = report.record
    if record.version == mint.version:
        switched_at = record.accepted_at or work.ports.clock()
        return await work.write(replace(mint, state="switched", switched_at=switched_at))
    if record.version != mint.old_version:
        # A person's key is in use, so that the one made here never will be.
        raise Stop(await work.discard(mint, "mint_overtaken", pause=False))
    if report.temporary:
        raise Stop(replace(mint, cause="mint_unavailable"))
    is_newest = report.newest_version == mint.version
    raise Stop(replace(mint, cause="mint_not_accepted" if is_newest else "mint_waits"))


async def _end(work: Work, mint: KeyMint) -> KeyMint:
    """Delete the old key, once the new one is known to be good at this moment."""
    report = await _look(work)
    record = report.record
    if report.temporary or record.refused_at or record.version == mint.old_version:
        # What is wrong with the key in use is in its own findings.
        raise Stop(replace(mint, cause="rotation_grace"))
    if await work.ports.old_key_is_used(mint):
        raise Stop(replace(mint, cause="old_key_used"))
    used = await work.used()
    doomed = {mint.old_version: mint.old_key_id}
    if record.version != mint.version:
        # A person has rotated again since: the key that was made here is an old one too.
        doomed[mint.version] = mint.key_id
    left = ""
    for version, key_id in doomed.items():
        if key_id and key_id != used.tags.get(TAG_ID) and await work.delete(key_id):
            await work.audit(version, "old_key_deleted")
        else:
            left = "old_key_left"
    return await work.write(replace(mint, state="idle", cause=left))
