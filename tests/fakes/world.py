"""One world that the fakes of accounts, vaults, keys and their tables show a side of."""

from dataclasses import dataclass, field
from datetime import datetime

from finetune_wandb.accounts.ports import ReconcilePorts
from finetune_wandb.model.accounts.account import Account
from finetune_wandb.model.accounts.key import KeyOwner, KeyRecord, WriteRight
from finetune_wandb.model.accounts.ports import OutgoingNotice
from finetune_wandb.model.accounts.report import AccountReport
from finetune_wandb.model.accounts.vault import RoleAssignment, SecretVersion, Vault
from finetune_wandb.model.audit import AuditEntry
from finetune_wandb.model.errors import AppError
from finetune_wandb.model.secret import SecretRef
from tests.fakes.azure import FakeAccounts, FakeRoles, FakeSecrets, FakeVaults
from tests.fakes.nouns import (
    BETTER,
    GOOD,
    OWN_PRINCIPAL,
    PLACE,
    STRANGER,
    TENANT,
    VAULT,
    VAULT_ID,
    account,
    version,
)
from tests.fakes.storage import FakeAudit, FakeKeyTable
from tests.fakes.wandb import FakeProver


@dataclass
class World:
    """What Azure and W&B hold, what was called, and what is to go wrong."""

    accounts: dict[str, Account] = field(default_factory=dict)
    vaults: dict[str, Vault] = field(default_factory=dict)
    secrets: dict[SecretRef, list[SecretVersion]] = field(default_factory=dict)
    assignments: list[RoleAssignment] = field(default_factory=list)
    owners: dict[str, KeyOwner] = field(default_factory=dict)
    rights: dict[tuple[str, str, str], WriteRight] = field(default_factory=dict)
    """By key, entity and project; left out: a key may write to its owner's entities."""
    records: dict[SecretRef, KeyRecord] = field(default_factory=dict)
    audit: FakeAudit = field(default_factory=FakeAudit)
    notices: list[OutgoingNotice] = field(default_factory=list)
    entries: dict[str, AccountReport] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    errors: dict[str, list[AppError]] = field(default_factory=dict)
    """By call name: raised once each, in order, in place of the call."""
    lost: dict[str, AppError] = field(default_factory=dict)
    """By call name: raised once after the call took effect."""
    principal_late: bool = False
    granted_at: datetime | None = None
    """When roles are assigned from now on; None is long ago."""

    def called(self, name: str, *, writes: bool = False) -> None:
        self.calls.append(f"write {name}" if writes else name)
        if queue := self.errors.get(name):
            raise queue.pop(0)

    def lose(self, name: str) -> None:
        if error := self.lost.pop(name, None):
            raise error

    @property
    def changes(self) -> list[AuditEntry]:
        """What the audit says of versions, in the order of writing."""
        return [entry for entry in self.audit.entries if entry.action == "key_changed"]

    @property
    def writes(self) -> list[str]:
        return [call.removeprefix("write ") for call in self.calls if call.startswith("write ")]

    def ports(self) -> ReconcilePorts:
        return ReconcilePorts(
            accounts=FakeAccounts(self),
            vaults=FakeVaults(self),
            secrets=FakeSecrets(self),
            roles=FakeRoles(self),
            prover=FakeProver(self),
            keys=FakeKeyTable(self),
            audit=self.audit,
            own_principal=self._own_principal,
        )

    async def _own_principal(self) -> str:
        return OWN_PRINCIPAL


def world(*accounts: Account, **more: object) -> World:
    """Return a world with a RBAC vault and a good key in it."""
    found = accounts or (account(),)
    return World(
        accounts={item.id.key: item for item in found},
        vaults={VAULT.host: Vault(id=VAULT_ID, address=VAULT, tenant_id=TENANT, rbac=True)},
        secrets={PLACE: [version("v1")]},
        owners={
            GOOD: KeyOwner("team-a", ("team-a", "team-b")),
            BETTER: KeyOwner("team-a", ("team-a", "team-b")),
            STRANGER: KeyOwner("elsewhere", ("elsewhere",)),
        },
        **more,
    )
