"""The first half of a rotation: a new key is made, proved and stored.

Between W&B's answer and the vault the value is in memory alone. Each step is written down first,
so that a key whose value was lost with the process is found by its name or id and deleted.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Final

from finetune_wandb.keys.look import prove_version
from finetune_wandb.keys.rotation_rules import old_key
from finetune_wandb.keys.rotation_work import Stop, Work, given_up, lost
from finetune_wandb.model.errors import AppError, ConflictError, DeniedError, TemporaryError
from finetune_wandb.model.mint import TAG_ID, TAG_NAME, KeyMint, MintedKey
from finetune_wandb.model.secret import Secret
from finetune_wandb.model.vault import SecretVersion

_STORE_WITHIN: Final = timedelta(minutes=5)
"""A key is stored only this soon after the claim: a process that stood still for longer must
not store one that another has meanwhile deleted."""
_SETTLING_S: Final = (1.0, 3.0)
"""Pauses in seconds before W&B is asked again about a key that it has only just made."""


async def begin(work: Work, mint: KeyMint) -> KeyMint:
    """Write down that a key will be made, and which one it replaces."""
    used = await work.used()
    now = work.ports.clock()
    return await work.write(
        replace(
            mint,
            state="intent",
            name=work.new_name(),
            key_id="",
            version="",
            old_version=used.version,
            old_key_id=used.tags.get(TAG_ID, "") or await _only_key(work, used.value),
            began_at=now,
            switched_at=None,
        )
    )


async def _only_key(work: Work, key: Secret) -> str:
    """Return the id of a key that a person made, empty where nobody can tell which it is."""
    try:
        return old_key(await work.ports.minter.list_keys(key))
    except DeniedError:
        return ""


async def clean_up(work: Work, mint: KeyMint) -> KeyMint:
    """Delete what an interrupted rotation has made: nobody knows its value."""
    key = (await work.used()).value
    try:
        for item in await work.ports.minter.list_keys(key):
            if item.description == mint.name:
                await work.ports.minter.delete(key, item.id)
    except DeniedError:
        # W&B shows its keys to its own clients only: people are told the name.
        mint = await work.write(replace(lost(mint), name=work.new_name()))
    return mint


async def make(work: Work, mint: KeyMint) -> KeyMint:
    """Make a key, prove it, store it. Raises Stop where W&B or the vault refuses."""
    used = await work.used()
    try:
        made = await work.ports.minter.generate(used.value, mint.name)
    except TemporaryError:
        raise
    except AppError:
        refused = given_up(mint, "mint_refused", work.ports.clock(), pause=True)
        raise Stop(refused) from None
    try:
        mint = await work.write(replace(mint, state="minted", key_id=made.id))
    except ConflictError:
        await work.ports.minter.delete(used.value, made.id)
        raise
    await _prove(work, mint, made)
    return await _store(work, mint, made)


async def _prove(work: Work, mint: KeyMint, made: MintedKey) -> None:
    candidate = SecretVersion("", enabled=True, not_before=None, expires=None, value=made.value)
    evidence = {"vault": work.secret.vault.name, "secret": work.secret.name, "version": ""}
    for pause in (*_SETTLING_S, None):
        look = await prove_version(
            candidate,
            work.record,
            evidence,
            ports=work.ports.reconcile,
            settings=work.settings,
        )
        if look.failure is None:
            return
        if pause is not None:
            await work.ports.wait(pause)
    # Unproved and unstored: it is made again when W&B answers.
    cause = "mint_unavailable" if look.temporary else "mint_not_accepted"
    raise Stop(await work.discard(mint, cause, pause=not look.temporary))


async def _store(work: Work, mint: KeyMint, made: MintedKey) -> KeyMint:
    now = work.ports.clock()
    if now - work.claimed_at > _STORE_WITHIN:
        raise Stop(await work.discard(mint, "mint_unavailable", pause=False))
    try:
        version = await work.ports.writer.write_version(
            work.secret,
            made.value,
            expires=now + timedelta(days=work.settings.rotation_lifetime_days),
            tags={TAG_ID: made.id, TAG_NAME: mint.name},
        )
    except TemporaryError:
        # It may be stored all the same: the next pass looks.
        raise
    except AppError:
        raise Stop(await work.discard(mint, "mint_store_denied", pause=True)) from None
    return await work.write(replace(mint, state="stored", version=version))


async def find_or_begin_again(work: Work, mint: KeyMint) -> KeyMint:
    """Go on with a key that may have been stored; one that was not is worth nothing."""
    version = await _stored_version(work, mint)
    if version:
        return await work.write(replace(mint, state="stored", version=version))
    if not await work.delete(mint.key_id):
        mint = lost(mint)
    mint = await work.write(replace(mint, state="intent", key_id="", name=work.new_name()))
    return await make(work, mint)


async def _stored_version(work: Work, mint: KeyMint) -> str:
    ports = work.ports
    try:
        found = await ports.writer.find_version(work.secret, TAG_NAME, mint.name)
    except DeniedError:
        # Versions may not be listed; the one that was stored last is the newest one.
        newest = await ports.reconcile.secrets.read_newest(work.secret)
        found = newest.version if newest.tags.get(TAG_NAME) == mint.name else None
    return found or ""
