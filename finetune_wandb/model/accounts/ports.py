"""What the check-and-apply half needs from the network. Clients and fakes satisfy these.

Every method raises only errors of `finetune_wandb/model/errors.py`.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from finetune_wandb.model.accounts.account import Account, RelayAccount
from finetune_wandb.model.accounts.key import KeyOwner, KeyRecord, WriteRight
from finetune_wandb.model.accounts.report import AccountReport
from finetune_wandb.model.accounts.vault import RoleAssignment, SecretVersion, Vault
from finetune_wandb.model.ids import AccountId, VaultAddress
from finetune_wandb.model.secret import Secret, SecretRef


class AccountPort(Protocol):
    """Azure AI accounts in ARM."""

    async def read(self, account: AccountId) -> Account:
        """Return the account as it is now. Raises MissingError if it does not exist."""
        ...

    def list_ids(self, subscription: str) -> AsyncIterator[AccountId]:
        """Yield the ids of a subscription's accounts that can carry OpenAI models."""
        ...

    async def update_identity(self, account: Account, tags: Mapping[str, str]) -> Account:
        """Switch the system-assigned identity on, keeping the user-assigned ones, and merge `tags`.

        `account` must have been read for this write.

        Raises NotReadyError if the operation takes longer than a call should wait.
        """
        ...

    async def update_tags(self, account: Account, tags: Mapping[str, str]) -> Account:
        """Merge `tags` into the tags that `account` was read with. Raises as above."""
        ...


class VaultPort(Protocol):
    """Key vaults in ARM."""

    async def find(self, vault: VaultAddress) -> Vault:
        """Return the vault, from whichever configured subscription holds it.

        Raises MissingError with code `SoftDeleted` for a deleted vault that can be recovered,
        with an empty code when no configured subscription has it.
        """
        ...

    async def add_policy(self, vault: Vault, object_id: str) -> None:
        """Let the identity get and list secrets, keeping all existing permissions."""
        ...


class SecretPort(Protocol):
    """Secrets in a vault's data plane."""

    async def read_newest(self, secret: SecretRef) -> SecretVersion:
        """Return the newest version. Raises MissingError, or DeniedError whose code says why:
        `SecretDisabled`, `ForbiddenByRbac`, `AccessDenied`, `ForbiddenByFirewall`, ..."""
        ...

    async def read_version(self, secret: SecretRef, version: str) -> SecretVersion:
        """Return exactly that version."""
        ...


class RolePort(Protocol):
    """Role assignments in ARM."""

    async def list_for_scope(self, scope: str) -> tuple[RoleAssignment, ...]:
        """Return the assignments that hold at a scope: made there or above it."""
        ...

    async def assign(
        self, scope: str, role_id: str, principal_id: str, description: str
    ) -> RoleAssignment:
        """Give a service principal a role; a no-op if it has it already.

        Raises NotReadyError while the directory does not know the principal yet.
        """
        ...

    async def remove(self, assignment: str) -> None:
        """Delete an assignment by its ARM id; a no-op if it does not exist."""
        ...


class ProverPort(Protocol):
    """The part of W&B that proves a key."""

    async def prove(self, key: Secret) -> KeyOwner:
        """Return the key's owner. Raises RejectedError if W&B refuses the key, TemporaryError
        without a clear answer."""
        ...

    async def write_right(self, key: Secret, entity: str, project: str) -> WriteRight:
        """Return what the key may do in a project. Raises as `prove` does."""
        ...


class KeyStore(Protocol):
    """The table of keys in use."""

    async def read(self, secret: SecretRef) -> KeyRecord | None:
        """Return what is known of a secret, None before the first look."""
        ...

    async def write(self, record: KeyRecord) -> KeyRecord:
        """Store the record and return it with its new etag. Raises ConflictError if another writer
        changed the row since."""
        ...

    async def list_all(self) -> list[KeyRecord]: ...


class AccountStore(Protocol):
    """The table of accounts."""

    async def read(self, account: AccountId) -> AccountReport | None:
        """Return the last report of an account, None without one."""
        ...

    async def write(self, report: AccountReport) -> None: ...

    async def list_all(self) -> list[AccountReport]:
        """Return every account's last report, deleted ones too, in no order."""
        ...

    async def list_for_relay(self) -> list[RelayAccount]:
        """Return the accounts whose jobs are relayed: existing, in scope, with a known entity."""
        ...

    async def find_for_relay(self, account: AccountId) -> RelayAccount | None:
        """Return an account whose jobs are relayed, None for any other."""
        ...

    async def mark_native_seen(self, account: AccountId) -> None:
        """Record that a job of the account carries Azure's own W&B integration."""
        ...


NoticeType = Literal[
    "WandbRelay.AccountHealthy",
    "WandbRelay.AccountUnhealthy",
    "WandbRelay.StepFailed",
    "WandbRelay.KeyAccepted",
    "WandbRelay.KeyRefused",
    "WandbRelay.KeyExpiring",
    "WandbRelay.JobAlert",
]


@dataclass(frozen=True, slots=True)
class OutgoingNotice:
    """An event that the app publishes. Two with the same `id` are the same event sent twice."""

    id: str
    type: NoticeType
    subject: str
    """ARM id of the account, or the URL of the secret."""
    time: datetime
    data: Mapping[str, Any]


class NoticePort(Protocol):
    """The topic that serves the customer's own alerts."""

    async def publish(self, notice: OutgoingNotice) -> None: ...
