"""What one pass knows of an account and its surroundings; checks look only at this."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from finetune_wandb.accounts.desired import Desired
from finetune_wandb.model.account import Account
from finetune_wandb.model.errors import AppError, DeniedError, MissingError, TemporaryError
from finetune_wandb.model.key import KeyReport
from finetune_wandb.model.settings import Settings
from finetune_wandb.model.vault import RoleAssignment, Vault


@dataclass(frozen=True, slots=True)
class ReadFailure:
    """A fact that could not be had. `retry_after` is in seconds."""

    kind: Literal["denied", "missing", "temporary", "refused"]
    code: str
    retry_after: float | None = None


def failure_of(error: AppError) -> ReadFailure:
    """Return what an error says about the fact that was asked for."""
    if isinstance(error, TemporaryError):
        return ReadFailure("temporary", error.code, error.retry_after)
    if isinstance(error, DeniedError):
        return ReadFailure("denied", error.code)
    if isinstance(error, MissingError):
        return ReadFailure("missing", error.code)
    return ReadFailure("refused", error.code)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Facts of one moment. None is a fact that was not asked for, since another forbids it."""

    account: Account
    desired: Desired
    settings: Settings
    now: datetime
    native_seen: bool = False
    """Whether a job of this account was seen that carries Azure's own W&B integration."""
    vault: Vault | ReadFailure | None = None
    assignments: tuple[RoleAssignment, ...] | ReadFailure | None = None
    key: KeyReport | None = None
