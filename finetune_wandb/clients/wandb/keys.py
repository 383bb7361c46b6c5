"""W&B keys: whose one is and what it may write to; making, listing and deleting keys of its user.

The operations are the SDK's own (wandb 0.31.0: `Viewer`, apis/_generated/is_project_read_only.py,
apis/public/users.py). Only a clear no speaks against a key; everything else says nothing about it.
"""

from functools import lru_cache
from typing import Any, Final

from finetune_wandb.clients.transport import Transport
from finetune_wandb.clients.wandb.api import USER_AGENT, WandbApi
from finetune_wandb.model.accounts.key import KeyOwner, ListedKey, MintedKey, WriteRight
from finetune_wandb.model.errors import (
    DeniedError,
    PermanentError,
    RejectedError,
    UnavailableError,
)
from finetune_wandb.model.secret import Secret

_VIEWER: Final = "query Viewer { viewer { id entity teams { edges { node { name } } } } }"
_PROJECT: Final = (
    "query IsProjectReadOnly($entity: String!, $project: String!) {"
    " project(entityName: $entity, name: $project) { readOnly } }"
)
_OTHERS: Final = (
    "query ProjectsReadOnly($entity: String!) {"
    " models(entityName: $entity, first: 20) { edges { node { readOnly } } } }"
)
_GENERATE: Final = (
    "mutation GenerateApiKey($description: String) {"
    " result: generateApiKey(input: {description: $description}) {"
    " apiKey { id name description } } }"
)
_LIST: Final = "query Keys { viewer { apiKeys { edges { node { id description } } } } }"
_DELETE: Final = (
    "mutation DeleteApiKey($id: String!) { result: deleteApiKey(input: {id: $id}) { success } }"
)
_SHORTEST_KEY: Final = 40
NO_OWNER: Final = "200"
"""Code of a refusal by an answer that names no user."""


class KeyProver:
    """ProverPort over W&B's GraphQL endpoint."""

    def __init__(self, transport: Transport, base_url: str, timeout_s: float = 10.0) -> None:
        self._api = WandbApi(transport, base_url, timeout_s=timeout_s)

    async def prove(self, key: Secret) -> KeyOwner:
        subject = self._api.base_url
        try:
            return _owner(await self._ask(key, _VIEWER, {}), subject)
        except PermanentError as error:
            if error.code == NO_OWNER:
                raise
            if isinstance(error, DeniedError) and error.code != "blocked":
                raise _refused(error.code, subject) from None
            raise _silence(error.code, subject) from None

    async def write_right(self, key: Secret, entity: str, project: str) -> WriteRight:
        try:
            found = await self._ask(key, _PROJECT, {"project": project, "entity": entity})
            if found.get("project", "") is not None:
                read_only = _object(found.get("project")).get("readOnly")
                if read_only is None:
                    return "unknown"
                return "read_only" if read_only is True else "write"
            # W&B has no such project, or does not show it. A viewer's seat shows in the others.
            others = _nodes((await self._ask(key, _OTHERS, {"entity": entity})).get("models"))
        except DeniedError as error:
            if error.code == "401":
                raise _refused("401", self._api.base_url) from None
            return "refused" if error.code == "403" else "unknown"
        except RejectedError as error:
            return "new_project" if error.code == "project" else "unknown"
        except PermanentError:
            # An older server: the first run shows it.
            return "unknown"
        only_reads = bool(others) and all(item.get("readOnly") is True for item in others)
        return "read_only" if only_reads else "new_project"

    async def _ask(self, key: Secret, query: str, variables: dict[str, str]) -> dict[str, Any]:
        return await self._api.ask(query, variables, key=key, subject=self._api.base_url)


class KeyMinter:
    """MinterPort over W&B's GraphQL endpoint.

    No request is repeated here: a lost answer may hide a key that exists.
    """

    def __init__(self, transport: Transport, base_url: str, timeout_s: float = 20.0) -> None:
        self._api = WandbApi(transport, base_url, timeout_s=timeout_s)

    async def generate(self, key: Secret, description: str) -> MintedKey:
        data = await self._ask(key, _GENERATE, {"description": description})
        made = _object(data.get("result")).get("apiKey")
        if not isinstance(made, dict):
            raise RejectedError("W&B made no key", subject=self._api.base_url, code="empty")
        value = str(made.get("name") or "")
        if not made.get("id") or len(value) < _SHORTEST_KEY:
            # Servers that show a key's value elsewhere only. It is found by its description.
            raise UnavailableError(
                "W&B's answer does not hold the new key", subject=self._api.base_url, code="NoValue"
            )
        return MintedKey(str(made["id"]), Secret(value))

    async def list_keys(self, key: Secret) -> tuple[ListedKey, ...]:
        data = await self._ask(key, _LIST, {})
        shown = _object(data.get("viewer")).get("apiKeys")
        if not isinstance(_object(shown).get("edges"), list):
            raise DeniedError(
                "W&B does not show the user's keys", subject=self._api.base_url, code="hidden"
            )
        return tuple(
            ListedKey(str(node["id"]), str(node.get("description") or ""))
            for node in _nodes(shown)
            if node.get("id")
        )

    async def delete(self, key: Secret, key_id: str) -> None:
        try:
            await self._ask(key, _DELETE, {"id": key_id})
        except RejectedError as error:
            if error.code != "missing":
                raise

    async def _ask(self, key: Secret, query: str, variables: dict[str, str]) -> dict[str, Any]:
        return await self._api.ask(
            query,
            variables,
            key=key,
            subject=self._api.base_url,
            agent=sdk_agent(),
            repeat=False,
        )


def _owner(data: dict[str, Any], subject: str) -> KeyOwner:
    viewer = data.get("viewer", "")
    if viewer is None:
        raise RejectedError("W&B knows no owner of the key", subject=subject, code=NO_OWNER)
    if not isinstance(viewer, dict):
        # A proxy's answer says nothing about the key, however much it looks like W&B's.
        raise _silence("NotJson", subject)
    entity = viewer.get("entity")
    entity = entity if isinstance(entity, str) else ""
    teams = [node.get("name") for node in _nodes(viewer.get("teams"))]
    names = [name for name in (entity, *teams) if isinstance(name, str) and name]
    return KeyOwner(entity, tuple(dict.fromkeys(names)))


def _refused(code: str, subject: str) -> RejectedError:
    return RejectedError("W&B does not accept the key", subject=subject, code=code)


def _silence(code: str, subject: str) -> UnavailableError:
    return UnavailableError(
        f"W&B's answer ({code}) says nothing about the key", subject=subject, code=code
    )


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _nodes(connection: Any) -> list[dict[str, Any]]:
    edges = _object(connection).get("edges")
    return [_object(_object(edge).get("node")) for edge in edges] if isinstance(edges, list) else []


@lru_cache(maxsize=1)
def sdk_agent() -> str:
    """Return the name under which the SDK asks, and ours: W&B shows keys to its own client only."""
    from importlib.metadata import version

    return f"W&B Public Client {version('wandb')} {USER_AGENT}"
