"""Azure as the live tests need it beside the product's own clients."""

import asyncio
from typing import Any

from finetune_wandb.clients.transport import Transport

ACCOUNTS_API = "2025-06-01"


class Arm:
    """Resource Manager over plain HTTP, with the signed-in person's rights."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def call(
        self, method: str, path: str, version: str, body: Any = None, *, host: str = ""
    ) -> tuple[int, Any]:
        """Return status and JSON answer; a write that goes on in the background is waited for."""
        host = host or "management.azure.com"
        url = self._transport.url(f"https://{host}{path}?api-version={version}")
        scope = "https://management.azure.com/.default"
        headers = {"Authorization": f"Bearer {await self._transport.token(scope)}"}
        session = self._transport.session()
        async with session.request(method, url, json=body, headers=headers) as answer:
            status = answer.status
            shown = await answer.json(content_type=None) if await answer.read() else None
        if status in (201, 202) and method in ("PUT", "PATCH"):
            await self._settled(path, version)
        return status, shown

    async def _settled(self, path: str, version: str) -> None:
        for _ in range(60):
            _, shown = await self.call("GET", path, version)
            state = (shown or {}).get("properties", {}).get("provisioningState", "Succeeded")
            if state in ("Succeeded", "Failed", "Canceled"):
                return
            await asyncio.sleep(5)

    async def logs(self, workspace: str, query: str) -> list[list[Any]]:
        """Return the rows of a Log Analytics query (workspace by its GUID)."""
        scope = "https://api.loganalytics.azure.com/.default"
        token = await self._transport.token(scope)
        url = f"https://api.loganalytics.azure.com/v1/workspaces/{workspace}/query"
        async with self._transport.session().post(
            self._transport.url(url),
            json={"query": query, "timespan": "PT1H"},
            headers={"Authorization": f"Bearer {token}"},
        ) as answer:
            assert answer.status == 200, f"Log Analytics answered {answer.status}"
            return list((await answer.json())["tables"][0]["rows"])

    async def logged(self, workspace: str, query: str, minutes: int = 10) -> list[list[Any]]:
        """Return the rows of a query as soon as there are some; logs come with minutes of delay."""
        for _ in range(minutes * 2):
            if rows := await self.logs(workspace, query):
                return rows
            await asyncio.sleep(30)
        return []
