"""Which accounts a change of rights on a vault concerns: those whose access it changed.

The event does not name the identity. Sending every account of the vault would cost a read per
account and event, and while many accounts are onboarded the app's own writes raise as many
events. So the rights are read once per event and compared with what is stored.
"""

from collections.abc import Iterable

from finetune_wandb.accounts.checks.access import access_differs
from finetune_wandb.flows.app import App
from finetune_wandb.model.errors import AppError
from finetune_wandb.model.ids import VaultAddress
from finetune_wandb.model.report import AccountEntry
from finetune_wandb.model.vault import RoleAssignment


async def accounts_concerned(hosts: Iterable[str] | None, app: App) -> list[AccountEntry]:
    """Return the accounts of these vaults (None: of all) whose access differs from what is stored.

    Of a vault whose rights cannot be read, all are returned: their own pass reports why. Raises TemporaryError
    when the table of accounts cannot be read.
    """
    wanted = None if hosts is None else set(hosts)
    by_vault: dict[VaultAddress, list[AccountEntry]] = {}
    for entry in await app.accounts.list_all():
        if entry.in_scope and not entry.deleted and entry.secret:
            by_vault.setdefault(entry.secret.vault, []).append(entry)
    found: list[AccountEntry] = []
    for address, entries in by_vault.items():
        if wanted is None or address.host in wanted:
            try:
                found += await _differing(address, entries, app)
            except AppError:
                found += entries
    return found


async def _differing(
    address: VaultAddress, entries: list[AccountEntry], app: App
) -> list[AccountEntry]:
    ports, settings = app.reconcile, app.settings
    on_secret = settings.vault_role_scope == "secret"
    vault = await ports.vaults.find(address)
    by_scope: dict[str, tuple[RoleAssignment, ...]] = {}
    found: list[AccountEntry] = []
    for entry in entries:
        scope = vault.scope(entry.secret.name if on_secret and entry.secret else "")
        if vault.rbac and scope not in by_scope:
            by_scope[scope] = await ports.roles.list_for_scope(scope)
        if access_differs(entry, vault, by_scope.get(scope), settings, app.now()):
            found.append(entry)
    return found
