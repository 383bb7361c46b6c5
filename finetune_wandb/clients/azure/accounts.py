"""Azure AI accounts in ARM: read, list, switch the identity on, tag.

Writes are PATCHes of exactly what changes. What to write is decided elsewhere.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from finetune_wandb.clients.translate import text_of, translated
from finetune_wandb.clients.transport import Transport
from finetune_wandb.model.accounts.account import OPENAI_KINDS, Account, openai_endpoint
from finetune_wandb.model.errors import NoticeError, NotReadyError, UnavailableError
from finetune_wandb.model.ids import AccountId, parse_account_id

if TYPE_CHECKING:
    from azure.mgmt.cognitiveservices.aio import CognitiveServicesManagementClient

_SERVICE = "Azure Resource Manager"


class Accounts:
    """AccountPort over Azure Resource Manager."""

    def __init__(self, transport: Transport, wait_s: float = 20.0) -> None:
        """`wait_s`: how long a change may take before NotReadyError leaves it to a later pass."""
        self._transport = transport
        self._wait_s = wait_s

    async def read(self, account: AccountId) -> Account:
        with translated(account.key, _SERVICE):
            found = await self._client(account.subscription).accounts.get(
                account.group, account.name
            )
            return _account_of(found, account)

    async def list_ids(self, subscription: str) -> AsyncIterator[AccountId]:
        kinds = {kind.lower() for kind in OPENAI_KINDS}
        with translated(subscription, _SERVICE):
            async for found in self._client(subscription).accounts.list():
                if (found.kind or "").lower() in kinds:
                    yield parse_account_id(found.id)

    async def update_identity(self, account: Account, tags: Mapping[str, str]) -> Account:
        from azure.mgmt.cognitiveservices import models

        # Sending the system-assigned type alone would remove the user-assigned identities.
        kept = {name: models.UserAssignedIdentity() for name in account.user_identities}
        identity = models.Identity(
            type="SystemAssigned, UserAssigned" if kept else "SystemAssigned",
            user_assigned_identities=kept or None,
        )
        changed = await self._patch(
            account.id,
            models.Account(identity=identity, tags={**account.tags, **tags} if tags else None),
        )
        # Azure sometimes creates the principal after the answer; a second read usually has it.
        return changed if changed.principal_id else await self.read(account.id)

    async def update_tags(self, account: Account, tags: Mapping[str, str]) -> Account:
        from azure.mgmt.cognitiveservices import models

        # A PATCH replaces the whole map; the generic tags API does not work for this provider.
        # Source: https://github.com/Azure/azure-rest-api-specs/issues/28209 (checked 2026-11-24).
        return await self._patch(account.id, models.Account(tags={**account.tags, **tags}))

    async def _patch(self, account: AccountId, body: Any) -> Account:
        with translated(account.key, _SERVICE):
            poller = await self._client(account.subscription).accounts.begin_update(
                account.group, account.name, body
            )
            try:
                found = await asyncio.wait_for(poller.result(), self._wait_s)
            except TimeoutError:
                raise NotReadyError(
                    f"the change is still in progress after {self._wait_s:g} s", subject=account.key
                ) from None
            return _account_of(found, account)

    def _client(self, subscription: str) -> "CognitiveServicesManagementClient":
        from azure.mgmt.cognitiveservices.aio import CognitiveServicesManagementClient

        return self._transport.sdk_client(
            CognitiveServicesManagementClient,
            subscription_id=subscription.lower(),
            polling_interval=1,
        )


def _account_of(found: Any, asked: AccountId) -> Account:
    """Return our account for the SDK's. Raises UnavailableError for another answer."""
    from azure.mgmt.cognitiveservices import models

    if not found.id or not found.kind:
        # A proxy's answer with status 200: without kind and tags the account would be out of scope.
        raise UnavailableError("Resource Manager's answer holds no account", subject=asked.key)
    properties = found.properties or models.AccountProperties()
    identity = found.identity or models.Identity()
    own = asked
    with contextlib.suppress(NoticeError):
        own = parse_account_id(found.id)
    return Account(
        # In the resource's spelling; events use any letter case.
        id=own if own.key == asked.key else asked,
        kind=found.kind,
        region=found.location or "",
        provisioning_state=text_of(properties.provisioning_state),
        endpoint=openai_endpoint(properties.endpoint or "", properties.endpoints or {}),
        custom_subdomain=properties.custom_sub_domain_name or "",
        system_identity="systemassigned" in text_of(identity.type).lower(),
        principal_id=(identity.principal_id or "").lower(),
        tenant_id=(identity.tenant_id or "").lower(),
        user_identities=tuple(identity.user_assigned_identities or ()),
        tags={name: value or "" for name, value in (found.tags or {}).items()},
    )
