"""W&B keys: their owner and rights; creating, listing and deleting keys of a user.

The operations are the SDK's own (wandb 0.31.0: `Viewer`, apis/_generated/is_project_read_only.py,
apis/public/users.py). Only a clear refusal counts against a key; any other failure proves nothing.
"""

from typing import Any, Final

from finetune_wandb.clients.transport import Transport
from finetune_wandb.clients.wandb.api import USER_AGENT, WandbApi
from finetune_wandb.model.accounts.key import KeyOwner, ListedKey, MintedKey, WriteRight
from finetune_wandb.model.errors import DeniedError, PermanentError, RejectedError, UnavailableError
from finetune_wandb.model.secret import Secret

SDK_AGENT: Final = f"W&B Public Client 0.31.0 {USER_AGENT}"
"""The SDK's user agent, and ours: W&B lists keys only for its own client."""
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


class KeyProver:
    """ProverPort over W&B's GraphQL endpoint."""

    def __init__(self, transport: Transport, base_url: str, timeout_s: float = 10.0) -> None:
        self._api = WandbApi(transport, base_url, timeout_s=timeout_s)

    async def prove(self, key: Secret) -> KeyOwner:
        subject = self._api.base_url
        try:
            data = await self._api.ask(_VIEWER, {}, key=key)
        except PermanentError as error:
            if isinstance(error, DeniedError) and error.code != "blocked":
                raise _refused(error.code, subject) from None
            raise _silence(error.code, subject) from None
        return _owner(data, subject)

    async def write_right(self, key: Secret, entity: str, project: str) -> WriteRight:
        try:
            found = await self._api.ask(_PROJECT, {"project": project, "entity": entity}, key=key)
            if found.get("project", "") is not None:
                read_only = _object(found.get("project")).get("readOnly")
                if read_only is None:
                    return "unknown"
                return "read_only" if read_only is True else "write"
            # W&B has no such project, or hides it. The team's other projects show a viewer seat.
            others = _nodes(
                (await self._api.ask(_OTHERS, {"entity": entity}, key=key)).get("models")
            )
        except DeniedError as error:
            if error.code == "401":
                raise _refused("401", self._api.base_url) from None
            return "refused" if error.code == "403" else "unknown"
        except RejectedError as error:
            return "new_project" if error.code == "project" else "unknown"
        except PermanentError:
            # An older server: only the first run shows whether the key may write.
            return "unknown"
        only_reads = bool(others) and all(item.get("readOnly") is True for item in others)
        return "read_only" if only_reads else "new_project"


class KeyMinter:
    """MinterPort over W&B's GraphQL endpoint.

    No request is repeated here: a lost answer may hide a key that exists.
    """

    def __init__(self, transport: Transport, base_url: str, timeout_s: float = 20.0) -> None:
        self._api = WandbApi(
            transport, base_url, timeout_s=timeout_s, agent=SDK_AGENT, repeat=False
        )

    async def generate(self, key: Secret, description: str) -> MintedKey:
        data = await self._api.ask(_GENERATE, {"description": description}, key=key)
        made = _object(data.get("result")).get("apiKey")
        if not isinstance(made, dict):
            raise RejectedError("W&B created no key", subject=self._api.base_url, code="empty")
        value = str(made.get("name") or "")
        if not made.get("id") or len(value) < _SHORTEST_KEY:
            # Some servers return no value. The key is found by its description and deleted.
            raise UnavailableError(
                "W&B's answer does not hold the new key", subject=self._api.base_url, code="NoValue"
            )
        return MintedKey(str(made["id"]), Secret(value))

    async def list_keys(self, key: Secret) -> tuple[ListedKey, ...]:
        shown = _object((await self._api.ask(_LIST, {}, key=key)).get("viewer")).get("apiKeys")
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
            await self._api.ask(_DELETE, {"id": key_id}, key=key)
        except RejectedError as error:
            if error.code != "missing":
                raise


def _owner(data: dict[str, Any], subject: str) -> KeyOwner:
    viewer = data.get("viewer", "")
    if viewer is None:
        raise RejectedError("W&B knows no owner of the key", subject=subject, code="200")
    if not isinstance(viewer, dict):
        # A proxy's answer says nothing about the key, however much it looks like W&B's.
        raise _silence("NotJson", subject)
    names = [viewer.get("entity"), *(node.get("name") for node in _nodes(viewer.get("teams")))]
    entity, *teams = (name if isinstance(name, str) else "" for name in names)
    return KeyOwner(entity, tuple(dict.fromkeys(filter(None, (entity, *teams)))))


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
