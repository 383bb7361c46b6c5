"""W&B as the live tests need it: raw requests of the product's own kind, and their read-back."""

import base64
import json
from typing import Any

from finetune_wandb.clients.transport import Transport
from finetune_wandb.model.secret import Secret

_UPSERT = (
    "mutation UpsertBucket($name: String!, $entity: String, $project: String,"
    " $config: JSONString, $state: String) { upsertBucket(input: {name: $name,"
    " entityName: $entity, modelName: $project, config: $config, state: $state})"
    " { bucket { id name } inserted } }"
)
_RUN = (
    "query RunResumeStatus($project: String, $entity: String, $name: String!) {"
    " model(name: $project, entityName: $entity) { bucket(name: $name, missingOk: true) {"
    ' id name state config historyLineCount historyTail wandbConfig(keys: ["t"]) } } }'
)
_DELETE = "mutation DeleteRun($id: ID!) { deleteRun(input: {id: $id}) { clientMutationId } }"
TELEMETRY = {"_wandb": {"value": {"t": {"12": "wandb-finetune-relay"}, "m": []}}}


class Wandb:
    """The test project. Every run made here is deleted by `delete_runs`."""

    def __init__(
        self, transport: Transport, base_url: str, entity: str, project: str, key: Secret
    ) -> None:
        self._transport = transport
        self._base_url = base_url
        self.entity = entity
        self.project = project
        self._key = key
        self._made: list[str] = []

    @property
    def is_local(self) -> bool:
        """Whether this is the sandbox, whose counters do not lag."""
        return self._base_url.startswith("http://127.0.0.1")

    async def request(self, path: str, body: Any, key: Secret | None = None) -> tuple[int, Any]:
        """Return status and JSON answer (None where it is none)."""
        basic = base64.b64encode(f"api:{(key or self._key).reveal()}".encode()).decode()
        headers = {"Authorization": f"Basic {basic}"}
        url = f"{self._base_url}{path}"
        async with self._transport.session().post(url, json=body, headers=headers) as answer:
            text = await answer.text()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, None

    async def graphql(self, query: str, **variables: Any) -> Any:
        status, answer = await self.request("/graphql", {"query": query, "variables": variables})
        assert status == 200, f"W&B answered {status}"
        assert not answer.get("errors"), answer["errors"]
        return answer["data"]

    async def upsert(self, run: str, config: dict[str, Any], state: str | None = None) -> None:
        self._made.append(run)
        await self.graphql(
            _UPSERT,
            name=run,
            entity=self.entity,
            project=self.project,
            config=json.dumps(config),
            state=state,
        )

    async def stream(self, run: str, rows: list[dict[str, Any]], offset: int, **more: Any) -> int:
        """Post rows at an offset; return the status."""
        content = [json.dumps(row) for row in rows]
        files = {"wandb-history.jsonl": {"offset": offset, "content": content}} if rows else {}
        path = f"/files/{self.entity}/{self.project}/{run}/file_stream"
        status, _ = await self.request(path, {"files": files, **more} if files else more)
        return status

    async def run(self, run: str) -> dict[str, Any]:
        """Return the run as W&B shows it to a client that resumes, its config parsed."""
        data = await self.graphql(_RUN, project=self.project, entity=self.entity, name=run)
        found: dict[str, Any] = data["model"]["bucket"]
        tail = json.loads(found["historyTail"] or "[]")
        found["rows"] = [json.loads(row) if isinstance(row, str) else row for row in tail]
        found["config"] = json.loads(found["config"] or "{}")
        return found

    async def delete_runs(self) -> None:
        for run in self._made:
            data = await self.graphql(_RUN, project=self.project, entity=self.entity, name=run)
            if (data["model"] or {}).get("bucket"):
                await self.graphql(_DELETE, id=data["model"]["bucket"]["id"])
        self._made.clear()
