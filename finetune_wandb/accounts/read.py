"""What one pass knows of an account and its surroundings, and how it is read.

Checks look at `State` only. Facts that accounts share are read once for all of them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import batched
from operator import itemgetter
from typing import Literal

from finetune_wandb.accounts.desired import Desired
from finetune_wandb.accounts.ports import ReconcilePorts
from finetune_wandb.keys.in_use import prove_newest
from finetune_wandb.model.accounts.account import Account
from finetune_wandb.model.accounts.key import KeyReport, WriteRight
from finetune_wandb.model.accounts.vault import RoleAssignment, Vault
from finetune_wandb.model.errors import AppError, DeniedError, MissingError, TemporaryError
from finetune_wandb.model.settings import Settings

TRIGGER = "account pass"
_AT_ONCE = 8
"""Places that W&B is asked about at the same time."""


@dataclass(frozen=True, slots=True)
class ReadFailure:
    """A fact that could not be read. `retry_after` is in seconds."""

    kind: Literal["denied", "missing", "temporary", "refused"]
    code: str
    retry_after: float | None = None

    def cause(self, fact: str) -> str:
        """Return the cause code for a `fact` that could not be read."""
        return f"{fact}_{'unavailable' if self.kind == 'temporary' else self.kind}"


def failure_of(error: AppError) -> ReadFailure:
    """Return what an error says about the fact that was read."""
    if isinstance(error, TemporaryError):
        return ReadFailure("temporary", error.code, error.retry_after)
    if isinstance(error, DeniedError):
        return ReadFailure("denied", error.code)
    if isinstance(error, MissingError):
        return ReadFailure("missing", error.code)
    return ReadFailure("refused", error.code)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Facts of one moment. None: not read, because another fact rules it out."""

    account: Account
    desired: Desired
    settings: Settings
    now: datetime
    native_seen: bool = False
    """Whether a job of this account was seen that carries Azure's own W&B integration."""
    vault: Vault | ReadFailure | None = None
    assignments: tuple[RoleAssignment, ...] | ReadFailure | None = None
    key: KeyReport | None = None
    rights: Mapping[tuple[str, str], WriteRight | ReadFailure] = field(default_factory=dict)
    """What the key in use may do in each W&B entity and project that the account's jobs go to."""
    own_principal: str | ReadFailure = ""

    @property
    def scope(self) -> str:
        """The ARM scope at which the account's identity needs its role; empty without a vault."""
        secret = self.desired.secret_name if self.desired.on_secret else ""
        return self.vault.scope(secret) if isinstance(self.vault, Vault) else ""

    @property
    def is_spreading(self) -> bool:
        """Whether a role of the app was assigned recently: a refusal then means "not yet"."""
        return isinstance(self.assignments, tuple) and any(
            item.is_fresh(self.now) and item.principal_id == self.own_principal
            for item in self.assignments
        )


async def read_state(
    account: Account,
    desired: Desired,
    *,
    ports: ReconcilePorts,
    settings: Settings,
    now: datetime,
    fresh_after: datetime,
    native_seen: bool,
) -> State:
    """Return the state of an account that was read. If it is out of scope, nothing else is read."""
    state = State(
        account=account, desired=desired, settings=settings, now=now, native_seen=native_seen
    )
    address, secret = desired.vault, desired.secret
    if not desired.in_scope or address is None:
        return state

    def shared[T](
        key: Hashable, read: Callable[[], Awaitable[T]], keep: Callable[[T], bool]
    ) -> Awaitable[T]:
        return ports.shared.get(key, read, now=now, fresh_after=fresh_after, keep=keep)

    def prove() -> Awaitable[KeyReport]:
        assert secret is not None, "asked for below only where there is one"
        return prove_newest(secret, ports=ports, settings=settings, now=now, trigger=TRIGGER)

    reading = shared(address, lambda: _fact(ports.vaults.find(address)), _is_lasting)
    if secret is None:
        return replace(state, vault=await reading)
    vault, key, own = await asyncio.gather(
        reading,
        shared(secret, prove, lambda report: not report.temporary),
        _fact(ports.own_principal()),
    )
    state = replace(state, vault=vault, key=key, own_principal=own)
    if key.value is not None and desired.routable:
        ask = partial(ports.prover.write_right, key.value)
        rights: dict[tuple[str, str], WriteRight | ReadFailure] = {}
        places = dict.fromkeys(
            (wanted or key.record.entity, project) for wanted, project in desired.places
        )
        for some in batched(filter(itemgetter(0), places), _AT_ONCE, strict=False):
            told = await asyncio.gather(
                *(
                    shared(
                        ("right", secret, key.record.version, *place),
                        partial(_told, partial(ask, *place)),
                        _is_lasting,
                    )
                    for place in some
                )
            )
            rights |= zip(some, told, strict=True)
            if not all(map(_is_lasting, told)):
                # A slow W&B would take the pass's whole time; what is not asked speaks against nobody.
                break
        state = replace(state, rights=rights)
    if isinstance(vault, Vault) and vault.rbac:
        scope = state.scope
        assignments = await shared(
            scope.lower(), lambda: _fact(ports.roles.list_for_scope(scope)), _is_lasting
        )
        state = replace(state, assignments=assignments)
    return state


async def _told[T](ask: Callable[[], Awaitable[T]]) -> T | ReadFailure:
    return await _fact(ask())


async def _fact[T](reading: Awaitable[T]) -> T | ReadFailure:
    try:
        return await reading
    except AppError as error:
        return failure_of(error)


def _is_lasting(fact: object) -> bool:
    return not (isinstance(fact, ReadFailure) and fact.kind == "temporary")
