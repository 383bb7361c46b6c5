"""Azure Resource Manager as one service: every provider's routes in one table."""

from aiohttp import web

from dev.sandbox.arm import (
    accounts,
    arm,
    deployed,
    offers,
    role_definitions,
    roles,
    subscriptions,
    vault_resources,
    vault_store,
)
from dev.sandbox.arm.arm import ArmRoutes
from dev.sandbox.http import Call, Handler
from dev.sandbox.store import World


def _check_scope(world: World, scope: str) -> None:
    """Raise ArmError 404 for an account or vault (or a vault's secret) that is not there.

    Scopes of other kinds are taken on trust.
    """
    path = arm.parse_path(scope)
    kind = path.extension.removeprefix("providers/").removesuffix("/*")
    if not path.scope.lower().startswith("/subscriptions/") or len(path.names) < 3:
        return
    group, name = path.names[1], path.names[2]
    if kind == "microsoft.cognitiveservices/accounts" and accounts.find(world, scope) is None:
        raise arm.not_found("Microsoft.CognitiveServices/accounts", name, group)
    if kind.startswith("microsoft.keyvault/vaults"):
        vault = "/".join(scope.split("/")[:9])
        if vault_store.state(world).shelf.get(vault) is None:
            raise arm.not_found(vault_store.TYPE, name, group)


def routes(world: World) -> Handler:
    """Build the service that answers for management.azure.com."""
    table = ArmRoutes()
    subscriptions.add_routes(world, table)
    accounts.add_routes(world, table)
    vault_resources.add_routes(world, table)
    deployed.add_routes(world, table)
    offers.add_routes(world, table)
    role_definitions.add_routes(world, table)
    roles.add_routes(world, table, lambda scope: _check_scope(world, scope))

    async def answer(call: Call) -> web.StreamResponse:
        parts = call.path.split("/", 3)
        if len(parts) > 2 and parts[1].lower() == "subscriptions" and parts[2]:
            subscriptions.note(world, parts[2])
        return await table(call)

    return answer
