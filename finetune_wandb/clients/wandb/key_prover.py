"""Asks W&B whose key a key is. The key goes to the configured W&B and nowhere else.

Only a clear no is an error that speaks against the key; everything else says nothing about it.
Source: facts on the Viewer query, observed with the SDK of `requirements.txt` (2026-11-24).
"""

from typing import Any

import orjson

from finetune_wandb.clients.network import cause_of
from finetune_wandb.clients.translate import parse_retry_after
from finetune_wandb.clients.transport import Transport
from finetune_wandb.model.errors import AppError, RejectedError, ThrottledError, UnavailableError
from finetune_wandb.model.key import KeyOwner
from finetune_wandb.model.secret import Secret

_VIEWER = "query Viewer { viewer { id entity teams { edges { node { name } } } } }"
_PROJECT = (
    "query IsProjectReadOnly($entity: String!, $project: String!) {"
    " project(entityName: $entity, name: $project) { readOnly } }"
)
_NO_ANSWER = ("200", "400", "404")
_NO = ("not logged in", "permission denied", "permission_error", "unauthorized")


class KeyProver:
    """W&B's GraphQL endpoint under one base URL."""

    def __init__(self, transport: Transport, base_url: str, timeout_s: float = 10.0) -> None:
        self._transport = transport
        self._base_url = base_url
        self._timeout_s = timeout_s

    async def prove(self, key: Secret) -> KeyOwner:
        """Return whose key it is. Raises RejectedError when W&B says no, TemporaryError when it
        says nothing, after three tries within seconds."""
        data = await self._asked(key, _VIEWER, {}, field="viewer")
        if data["viewer"] is None:
            raise RejectedError("W&B knows no owner of the key", subject=self._base_url, code="200")
        return self._owner(data["viewer"])

    async def may_write(self, key: Secret, entity: str, project: str) -> bool | None:
        """Return whether the key may write to a project, None where W&B does not tell.

        Source: the field that the SDK asks for before it writes to a project that others own
        (wandb 0.31.0, apis/_generated/is_project_read_only.py). Raises as `prove` does.
        """
        variables = {"project": project, "entity": entity}
        try:
            shown = (await self._asked(key, _PROJECT, variables, field="project"))["project"]
        except RejectedError as error:
            if error.code == "401":
                raise
            return False
        except UnavailableError as error:
            if error.code in _NO_ANSWER:
                # An older server, or a project that is not there: the first run will tell.
                return None
            raise
        read_only = shown.get("readOnly") if isinstance(shown, dict) else None
        return None if read_only is None else read_only is not True

    async def _asked(
        self, key: Secret, query: str, variables: dict[str, str], *, field: str
    ) -> dict[str, Any]:
        """Return the `data` of W&B's answer; it has `field`."""
        import stamina

        async for attempt in stamina.retry_context(
            on=UnavailableError, attempts=3, timeout=20.0, wait_initial=0.2, wait_max=2.0
        ):
            with attempt:
                return await self._ask(key, query, variables, field)
        raise AssertionError("the last attempt raises")

    async def _ask(
        self, key: Secret, query: str, variables: dict[str, str], field: str
    ) -> dict[str, Any]:
        import aiohttp

        try:
            async with self._transport.session().post(
                f"{self._base_url}/graphql",
                json={"query": query, "variables": variables},
                headers={"Authorization": aiohttp.encode_basic_auth("api", key.reveal())},
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
                **self._transport.by_proxy(self._base_url),
            ) as response:
                body = await response.read()
                status, headers = response.status, response.headers
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            # The request of a client error holds the header with the key: it is not kept.
            code, text, remedy = cause_of(error, "W&B")
            raise UnavailableError(text, subject=self._base_url, code=code, remedy=remedy) from None
        return self._data(status, headers.get("Retry-After") or "", _json(body), field)

    def _data(self, status: int, pause: str, answer: Any, field: str) -> dict[str, Any]:
        code = str(status)
        errors = answer.get("errors") if isinstance(answer, dict) else None
        if status == 401 or (status in (200, 403) and _says_no(errors)):
            raise RejectedError("W&B does not accept the key", subject=self._base_url, code=code)
        if status == 429:
            raise ThrottledError(
                "W&B asks for a pause",
                subject=self._base_url,
                code=code,
                retry_after=parse_retry_after(pause),
            )
        data = answer.get("data") if isinstance(answer, dict) else None
        if status != 200 or errors or not isinstance(data, dict) or field not in data:
            raise self._unusable(code, pause)
        return data

    def _owner(self, viewer: Any) -> KeyOwner:
        if not isinstance(viewer, dict):
            # A proxy's answer says nothing about the key, however much it looks like W&B's.
            raise self._unusable("200", "")
        entity = viewer.get("entity")
        teams = map(_name, _edges(viewer.get("teams")))
        names = (entity if isinstance(entity, str) else "", *teams)
        return KeyOwner(names[0], tuple(dict.fromkeys(name for name in names if name)))

    def _unusable(self, code: str, pause: str) -> AppError:
        return UnavailableError(
            f"W&B's answer ({code}) says nothing about the key",
            subject=self._base_url,
            code=code,
            retry_after=parse_retry_after(pause),
        )


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except ValueError:
        return None


def _says_no(errors: Any) -> bool:
    return bool(errors) and any(word in str(errors).lower() for word in _NO)


def _edges(teams: Any) -> list[Any]:
    edges = teams.get("edges") if isinstance(teams, dict) else None
    return edges if isinstance(edges, list) else []


def _name(edge: Any) -> str:
    node = edge.get("node") if isinstance(edge, dict) else None
    name = node.get("name") if isinstance(node, dict) else None
    return name if isinstance(name, str) else ""
