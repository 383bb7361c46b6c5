"""In-memory stand-ins for the ports of the check-and-apply half, with a log of calls.

They behave as the clients do towards the sandbox; `tests/clients` holds those to the same.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from finetune_wandb.accounts.ports import ReconcilePorts
from finetune_wandb.model.account import Account
from finetune_wandb.model.errors import (
    AppError,
    ConflictError,
    MissingError,
    NotReadyError,
    RejectedError,
)
from finetune_wandb.model.ids import AccountId, VaultAddress, parse_vault_url
from finetune_wandb.model.key import KeyChange, KeyOwner, KeyRecord
from finetune_wandb.model.notice import OutgoingNotice
from finetune_wandb.model.report import AccountReport
from finetune_wandb.model.secret import Secret, SecretRef
from finetune_wandb.model.settings import Settings, read_settings
from finetune_wandb.model.vault import (
    RoleAssignment,
    SecretVersion,
    Vault,
    assignment_name,
    with_policy,
)

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=1)
SUBSCRIPTION = "11111111-1111-4111-8111-111111111111"
TENANT = "22222222-2222-4222-8222-222222222222"
PRINCIPAL = "33333333-3333-4333-8333-333333333333"
OLD_PRINCIPAL = "44444444-4444-4444-8444-444444444444"
VAULT = parse_vault_url("https://kv-main.vault.azure.net")
PLACE = SecretRef(VAULT, "wandb-api-key")
OTHER_VAULT = parse_vault_url("https://kv-other.vault.azure.net")
VAULT_ID = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-shared"
    "/providers/Microsoft.KeyVault/vaults/kv-main"
)
GOOD = "wandb_v1_" + "g" * 60
BETTER = "wandb_v1_" + "b" * 60
STRANGER = "wandb_v1_" + "s" * 60
REVOKED = "wandb_v1_" + "r" * 60
USER_IDENTITY = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-shared"
    "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/build"
)


def settings(**more: str) -> Settings:
    return read_settings(
        {"AZURE_SUBSCRIPTION_IDS": SUBSCRIPTION, "KEY_VAULT_URL": VAULT.url} | more
    )


def account_id(name: str = "alpha") -> AccountId:
    return AccountId(SUBSCRIPTION, "rg-ai", name)


def account(name: str = "alpha", **more: object) -> Account:
    """Return an account as it is after somebody made it in the portal."""
    base = Account(
        id=account_id(name),
        kind="OpenAI",
        region="swedencentral",
        provisioning_state="Succeeded",
        endpoint=f"https://{name}.openai.azure.com",
        custom_subdomain=name,
    )
    return replace(base, **more)


def version(number: str, value: str = GOOD, **more: object) -> SecretVersion:
    base = SecretVersion(
        version=number,
        enabled=True,
        not_before=None,
        expires=NOW + timedelta(days=90),
        value=Secret(value),
    )
    return replace(base, **more)


@dataclass
class World:
    """What Azure and W&B hold, what was called, and what is to go wrong."""

    accounts: dict[str, Account] = field(default_factory=dict)
    vaults: dict[str, Vault] = field(default_factory=dict)
    secrets: dict[SecretRef, list[SecretVersion]] = field(default_factory=dict)
    assignments: list[RoleAssignment] = field(default_factory=list)
    owners: dict[str, KeyOwner] = field(default_factory=dict)
    rights: dict[str, bool] = field(default_factory=dict)
    """By key: what W&B says of its right to write; left out: it says nothing."""
    records: dict[SecretRef, KeyRecord] = field(default_factory=dict)
    changes: list[KeyChange] = field(default_factory=list)
    notices: list[OutgoingNotice] = field(default_factory=list)
    entries: dict[str, AccountReport] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    errors: dict[str, list[AppError]] = field(default_factory=dict)
    """By call name: raised once each, in order, in place of the call."""
    lost: dict[str, AppError] = field(default_factory=dict)
    """By call name: raised once after the call took effect."""
    principal_late: bool = False

    def called(self, name: str, *, writes: bool = False) -> None:
        self.calls.append(f"write {name}" if writes else name)
        if queue := self.errors.get(name):
            raise queue.pop(0)

    def lose(self, name: str) -> None:
        if error := self.lost.pop(name, None):
            raise error

    @property
    def writes(self) -> list[str]:
        return [call.removeprefix("write ") for call in self.calls if call.startswith("write ")]

    def ports(self) -> ReconcilePorts:
        return ReconcilePorts(
            accounts=Accounts(self),
            vaults=Vaults(self),
            secrets=Secrets(self),
            roles=Roles(self),
            prover=Prover(self),
            keys=Keys(self),
        )


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


@dataclass
class Accounts:
    world: World

    async def read(self, account: AccountId) -> Account:
        self.world.called("read account")
        return self._found(account)

    async def list_ids(self, subscription: str) -> AsyncIterator[AccountId]:
        for item in self.world.accounts.values():
            if item.id.subscription == subscription:
                yield item.id

    async def update_identity(self, account: Account, tags: Mapping[str, str]) -> Account:
        self.world.called("enable identity", writes=True)
        changed = replace(
            self._found(account.id),
            system_identity=True,
            principal_id="" if self.world.principal_late else PRINCIPAL,
            tenant_id=TENANT,
            # A PATCH replaces both as a whole.
            user_identities=account.user_identities,
            tags={**account.tags, **tags} if tags else self._found(account.id).tags,
        )
        self.world.accounts[account.id.key] = changed
        self.world.lose("enable identity")
        return changed

    async def update_tags(self, account: Account, tags: Mapping[str, str]) -> Account:
        self.world.called("write tags", writes=True)
        changed = replace(self._found(account.id), tags={**account.tags, **tags})
        self.world.accounts[account.id.key] = changed
        self.world.lose("write tags")
        return changed

    def _found(self, account: AccountId) -> Account:
        if account.key not in self.world.accounts:
            raise MissingError("no such account", subject=account.key)
        return self.world.accounts[account.key]


@dataclass
class Vaults:
    world: World

    async def find(self, vault: VaultAddress) -> Vault:
        self.world.called("find vault")
        if vault.host not in self.world.vaults:
            raise MissingError("no configured subscription has the vault", subject=vault.host)
        return self.world.vaults[vault.host]

    async def add_policy(self, vault: Vault, object_id: str) -> None:
        self.world.called("add policy", writes=True)
        host = vault.address.host
        self.world.vaults[host] = with_policy(self.world.vaults[host], object_id)
        self.world.lose("add policy")


@dataclass
class Secrets:
    world: World

    async def read_newest(self, secret: SecretRef) -> SecretVersion:
        self.world.called("read secret")
        return self._versions(secret)[-1]

    async def read_version(self, secret: SecretRef, version: str) -> SecretVersion:
        self.world.called("read version")
        found = [item for item in self._versions(secret) if item.version == version]
        if not found:
            raise MissingError("no such version", subject=str(secret))
        return found[0]

    def _versions(self, secret: SecretRef) -> list[SecretVersion]:
        if secret not in self.world.secrets:
            raise MissingError("no such secret", subject=str(secret), code="SecretNotFound")
        return self.world.secrets[secret]


@dataclass
class Roles:
    world: World

    async def list_for_scope(self, scope: str) -> tuple[RoleAssignment, ...]:
        self.world.called("list roles")
        return tuple(self.world.assignments)

    async def assign(
        self, scope: str, role_id: str, principal_id: str, description: str
    ) -> RoleAssignment:
        self.world.called("grant role", writes=True)
        if not principal_id:
            raise NotReadyError("no principal", code="PrincipalNotFound")
        name = assignment_name(scope, principal_id, role_id)
        made = RoleAssignment(
            id=f"{scope}/providers/Microsoft.Authorization/roleAssignments/{name}",
            scope=scope.lower(),
            role_id=role_id,
            principal_id=principal_id,
            description=description,
        )
        self.world.assignments = [item for item in self.world.assignments if item.id != made.id] + [
            made
        ]
        self.world.lose("grant role")
        return made


@dataclass
class Prover:
    world: World

    async def prove(self, key: Secret) -> KeyOwner:
        self.world.called("prove key")
        if key.reveal() not in self.world.owners:
            raise RejectedError("W&B does not accept the key", code="401")
        return self.world.owners[key.reveal()]

    async def may_write(self, key: Secret, entity: str, project: str) -> bool | None:
        self.world.called("ask for write right")
        return self.world.rights.get(key.reveal())


@dataclass
class Keys:
    world: World

    async def read(self, secret: SecretRef) -> KeyRecord | None:
        self.world.called("read key record")
        return self.world.records.get(secret)

    async def write(self, record: KeyRecord) -> KeyRecord:
        self.world.called("store key record")
        stored = self.world.records.get(record.secret)
        if (stored.etag if stored else "") != record.etag:
            raise ConflictError("another writer came first", subject=str(record.secret))
        written = replace(record, etag=f"{int(record.etag or 0) + 1}")
        self.world.records[record.secret] = written
        return written

    async def list_all(self) -> list[KeyRecord]:
        self.world.called("list key records")
        return list(self.world.records.values())

    async def append_change(self, change: KeyChange) -> None:
        self.world.called("append change")
        self.world.changes.append(change)


@dataclass
class Entries:
    world: World

    async def read(self, account: AccountId) -> AccountReport | None:
        return self.world.entries.get(account.key)

    async def write(self, report: AccountReport) -> None:
        known = self.world.entries.get(report.key)
        if report.deleted:
            if known:
                gone = replace(known, deleted=True, in_scope=False, checked_at=report.checked_at)
                self.world.entries[report.key] = gone
            return
        if known and not report.readable:
            report = replace(
                known,
                findings=report.findings,
                checked_at=report.checked_at,
                healthy=known.healthy and not report.settled,
                told_healthy=report.told_healthy,
            )
        self.world.entries[report.key] = report


@dataclass
class Topic:
    world: World

    async def publish(self, notice: OutgoingNotice) -> None:
        self.world.called("publish")
        self.world.notices.append(notice)
