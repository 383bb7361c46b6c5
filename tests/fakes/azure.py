"""Azure in memory: the fine-tuning API, accounts, vaults, secrets and role assignments."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from finetune_wandb.model.accounts.account import Account, RelayAccount
from finetune_wandb.model.accounts.ports import OutgoingNotice
from finetune_wandb.model.accounts.vault import (
    RoleAssignment,
    SecretVersion,
    Vault,
    assignment_name,
    with_policy,
)
from finetune_wandb.model.errors import MissingError, NotReadyError
from finetune_wandb.model.ids import AccountId, VaultAddress
from finetune_wandb.model.relay.ports import Listing
from finetune_wandb.model.secret import SecretRef
from tests.fakes.gate import Gate, Open
from tests.fakes.nouns import PRINCIPAL, TENANT, relay_account

if TYPE_CHECKING:
    from tests.fakes.world import World


@dataclass
class FakeJob:
    """What the API answers for one job; listings are in the order they are served."""

    body: dict[str, Any]
    owner: str
    """Key of the account that it belongs to."""
    events: list[dict[str, Any]] = field(default_factory=list)
    checkpoints: list[dict[str, Any]] = field(default_factory=list)


class FakeJobs:
    """JobsPort over dictionaries. Newest jobs come first; an account sees only what it owns."""

    def __init__(self, gate: Gate | None = None) -> None:
        self.owner = relay_account().key
        """Key of the account that new jobs and all files belong to."""
        self.gate: Gate = gate or Open()
        self.jobs: dict[str, FakeJob] = {}
        self.files: dict[str, bytes] = {}
        self.page_size = 100
        self.chunk = 65536
        self.calls: list[str] = []
        self.cancelled: list[str] = []

    def put(self, body: dict[str, Any], **lists: list[dict[str, Any]]) -> FakeJob:
        """Set what is answered for a job from now on."""
        job = self.jobs[body["id"]] = FakeJob(body, self.owner, **lists)
        return job

    async def _through(self, call: str) -> None:
        self.calls.append(call)
        await self.gate.before(call)

    async def list_jobs(
        self, account: RelayAccount, after: str | None, limit: int, *, known: bytes = b""
    ) -> Listing:
        await self._through("list_jobs")
        mine = [job for job in self.jobs.values() if job.owner == account.key]
        bodies = [job.body for job in reversed(mine)]
        page = self._page(bodies, after, limit)
        digest = repr(page).encode()
        if digest == known:
            return Listing([], False, digest, unchanged=True)
        return Listing(page.items, page.has_more, digest)

    async def read_job(self, account: RelayAccount, job: str) -> dict[str, Any]:
        await self._through("read_job")
        return deepcopy(self._job(account, job).body)

    async def list_events(
        self, account: RelayAccount, job: str, after: str | None, limit: int
    ) -> Listing:
        await self._through("list_events")
        return self._page(self._job(account, job).events, after, limit)

    async def list_checkpoints(
        self, account: RelayAccount, job: str, after: str | None, limit: int
    ) -> Listing:
        await self._through("list_checkpoints")
        return self._page(self._job(account, job).checkpoints, after, limit)

    async def cancel_job(self, account: RelayAccount, job: str) -> None:
        await self._through("cancel_job")
        self._job(account, job).body["status"] = "cancelled"
        self.cancelled.append(job)

    async def describe_file(self, account: RelayAccount, file_id: str) -> dict[str, Any]:
        await self._through("describe_file")
        return {"id": file_id, "filename": file_id, "bytes": len(self._file(account, file_id))}

    async def read_file(self, account: RelayAccount, file_id: str) -> AsyncIterator[bytes]:
        await self._through("read_file")
        content = self._file(account, file_id)
        for start in range(0, len(content), self.chunk):
            yield content[start : start + self.chunk]
            await self.gate.after("read_file")

    def _job(self, account: RelayAccount, job: str) -> FakeJob:
        if job not in self.jobs or self.jobs[job].owner != account.key:
            raise MissingError("no such job", subject=job, code="404")
        return self.jobs[job]

    def _file(self, account: RelayAccount, file_id: str) -> bytes:
        if file_id not in self.files or self.owner != account.key:
            raise MissingError("no such file", subject=file_id, code="404")
        return self.files[file_id]

    def _page(self, items: list[dict[str, Any]], after: str | None, limit: int) -> Listing:
        """Return items behind the last occurrence of `after`, up to one that can be gone on from."""
        ids = [item.get("id") for item in items]
        start = 0
        if after is not None:
            if after not in ids:
                raise MissingError("no such item", subject=after, code="404")
            start = len(ids) - ids[::-1].index(after)
        end = min(start + max(min(limit, self.page_size), 1), len(ids))
        while end < len(ids) and (ids[end - 1] is None or ids[end - 1] in ids[end:]):
            end += 1
        return Listing(deepcopy(items[start:end]), end < len(ids))


@dataclass
class FakeAccounts:
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
class FakeVaults:
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
class FakeSecrets:
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
class FakeRoles:
    world: World

    async def list_for_scope(self, scope: str) -> tuple[RoleAssignment, ...]:
        self.world.called("list roles")
        below = scope.lower() + "/"
        return tuple(
            item for item in self.world.assignments if below.startswith(item.scope.lower() + "/")
        )

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
            made_at=self.world.granted_at,
        )
        self.world.assignments = [item for item in self.world.assignments if item.id != made.id] + [
            made
        ]
        self.world.lose("grant role")
        return made

    async def remove(self, assignment: str) -> None:
        self.world.called("revoke role", writes=True)
        self.world.assignments = [item for item in self.world.assignments if item.id != assignment]
        self.world.lose("revoke role")


@dataclass
class FakeTopic:
    world: World

    async def publish(self, notice: OutgoingNotice) -> None:
        self.world.called("publish")
        self.world.notices.append(notice)
