"""What Azure offers and allows before anything is deployed: regions, quotas, rights, what-if.

Everything is offered and allowed; a test plays a refusal as a fault with a body.
"""

from aiohttp import web

from dev.sandbox.arm import arm
from dev.sandbox.arm.arm import ArmRoutes
from dev.sandbox.http import Call, json_response
from dev.sandbox.store import World

_REGIONS = ("Sweden Central", "East US 2", "North Central US")


def add_routes(world: World, table: ArmRoutes) -> None:
    """Register what a survey before a deployment reads."""
    python = {
        "stackSettings": {
            "linuxRuntimeSettings": {"runtimeVersion": "3.13", "Sku": [{"skuCode": "FC1"}]}
        }
    }
    stack = {
        "name": "python",
        "properties": {"majorVersions": [{"value": "3", "minorVersions": [python]}]},
    }
    memory = {"name": {"value": "Flex Consumption memory"}, "currentValue": 0, "limit": 512000}
    answers = {
        "providers/Microsoft.Authorization/permissions": {
            "value": [{"actions": ["*"], "notActions": []}]
        },
        "providers/Microsoft.Authorization/roleAssignmentsUsageMetrics": {
            "roleAssignmentsLimit": 4000,
            "roleAssignmentsRemainingCount": 3990,
        },
        "providers/Microsoft.Web/geoRegions": {"value": [{"name": name} for name in _REGIONS]},
        "providers/Microsoft.Web/locations/{region}/usages": {"value": [memory]},
        "providers/Microsoft.Web/locations/{region}/functionAppStacks": {"value": [stack]},
    }

    def fixed(body: object) -> arm.ArmHandler:
        async def answer(_call: Call) -> web.Response:
            return json_response(body)

        return answer

    for path, body in answers.items():
        table.add_extension("GET", path, fixed(body))
    # An extension's path starts with the scope that it extends.
    stacks = "/providers/Microsoft.Web/locations/{region}/functionAppStacks"
    table.add("GET", stacks, fixed({"value": [stack]}))

    async def what_if(call: Call) -> web.Response:
        result = {"status": "Succeeded", "properties": {"changes": []}}
        return arm.accepted(world, call, call.path, result, lambda: (200, result), seconds=0)

    async def what_if_result(call: Call) -> web.Response:
        return await arm.operation_result(world, call)

    deployment = "providers/Microsoft.Resources/deployments/{name}/whatIf"
    table.add_extension("POST", deployment, what_if)
    table.add_extension("GET", f"{deployment}/operationResults/{{operation}}", what_if_result)
