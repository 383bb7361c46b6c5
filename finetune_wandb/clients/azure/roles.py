"""Role assignments in ARM: list those that hold at a scope, and give one."""

from typing import TYPE_CHECKING, Any

from finetune_wandb.clients.translate import answered, error_code
from finetune_wandb.clients.transport import Transport
from finetune_wandb.model.ids import subscription_of
from finetune_wandb.model.vault import RoleAssignment, assignment_name

if TYPE_CHECKING:
    from azure.mgmt.authorization.v2022_04_01.aio import AuthorizationManagementClient

_SERVICE = "Azure Resource Manager"


class Roles:
    """One SDK client per subscription, made when first needed and kept."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._clients: dict[str, AuthorizationManagementClient] = {}

    async def list_for_scope(self, scope: str) -> tuple[RoleAssignment, ...]:
        """Return the assignments at a scope and above it; some services add those below."""
        with answered(scope, _SERVICE):
            return tuple(
                [
                    _assignment_of(item)
                    async for item in self._client(scope).role_assignments.list_for_scope(scope)
                ]
            )

    async def assign(
        self, scope: str, role_id: str, principal_id: str, description: str
    ) -> RoleAssignment:
        """Give a service principal a role; success when it has it already.

        Raises NotReadyError while the directory does not know the principal yet.
        """
        from azure.core.exceptions import HttpResponseError
        from azure.mgmt.authorization.v2022_04_01.models import RoleAssignmentCreateParameters

        name = assignment_name(scope, principal_id, role_id)
        subscription = subscription_of(scope) or ""
        body = RoleAssignmentCreateParameters(
            role_definition_id=f"/subscriptions/{subscription}/providers"
            f"/Microsoft.Authorization/roleDefinitions/{role_id}",
            principal_id=principal_id,
            # Without it the SDK says User, and a new identity is looked for in vain.
            principal_type="ServicePrincipal",
            description=description,
        )
        with answered(scope, _SERVICE):
            try:
                made = await self._client(scope).role_assignments.create(scope, name, body)
            except HttpResponseError as error:
                if error_code(error) != "RoleAssignmentExists":
                    raise
                # The same role under another name: what was wanted is there.
                return RoleAssignment(
                    id=f"{scope}/providers/Microsoft.Authorization/roleAssignments/{name}",
                    scope=scope.lower(),
                    role_id=role_id,
                    principal_id=principal_id.lower(),
                    description=description,
                )
            return _assignment_of(made)

    def _client(self, scope: str) -> "AuthorizationManagementClient":
        subscription = subscription_of(scope) or ""
        if subscription not in self._clients:
            from azure.mgmt.authorization.v2022_04_01.aio import AuthorizationManagementClient

            from finetune_wandb.clients.azure.sdk import sdk_options

            self._clients[subscription] = AuthorizationManagementClient(
                self._transport.credential(), subscription, **sdk_options(self._transport)
            )
        return self._clients[subscription]


def _assignment_of(item: Any) -> RoleAssignment:
    return RoleAssignment(
        id=item.id or "",
        scope=(item.scope or "").lower(),
        role_id=(item.role_definition_id or "").rsplit("/", 1)[-1].lower(),
        principal_id=(item.principal_id or "").lower(),
        description=item.description or "",
    )
