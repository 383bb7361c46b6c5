"""Makes, lists and deletes keys of the W&B user that a key belongs to, through W&B's own API.

The operations are those of the SDK (wandb 0.31.0, apis/public/users.py: `generate_api_key`,
`delete_api_key`), sent as the SDK names itself: W&B shows a user's keys to its own client only.
Making a key is sent once and never repeated here: a lost answer may hide a key that exists.
"""

from functools import lru_cache
from typing import Any, Final

import orjson

from finetune_wandb.clients.network import cause_of
from finetune_wandb.clients.translate import parse_retry_after
from finetune_wandb.clients.transport import Transport
from finetune_wandb.model.errors import DeniedError, RejectedError, ThrottledError, UnavailableError
from finetune_wandb.model.mint import ListedKey, MintedKey
from finetune_wandb.model.secret import Secret

_GENERATE: Final = (
    "mutation GenerateApiKey($description: String) {"
    " result: generateApiKey(input: {description: $description}) {"
    " apiKey { id name description } } }"
)
_LIST: Final = "query Keys { viewer { apiKeys { edges { node { id description } } } } }"
_DELETE: Final = (
    "mutation DeleteApiKey($id: String!) { result: deleteApiKey(input: {id: $id}) { success } }"
)
_GONE: Final = ("not found", "does not exist")
_SHORTEST_KEY: Final = 40


class KeyMinter:
    """MinterPort over W&B's GraphQL endpoint."""

    def __init__(self, transport: Transport, base_url: str, timeout_s: float = 20.0) -> None:
        self._transport = transport
        self._base_url = base_url
        self._timeout_s = timeout_s

    async def generate(self, key: Secret, description: str) -> MintedKey:
        data = await self._ask(key, _GENERATE, {"description": description})
        made = _object(data.get("result")).get("apiKey")
        if not isinstance(made, dict):
            raise RejectedError("W&B made no key", subject=self._base_url, code="empty")
        value = str(made.get("name") or "")
        if not made.get("id") or len(value) < _SHORTEST_KEY:
            # Not a value: servers that show a key elsewhere only. It is found by its description.
            raise UnavailableError(
                "W&B's answer does not hold the new key", subject=self._base_url, code="NoValue"
            )
        return MintedKey(str(made["id"]), Secret(value))

    async def list_keys(self, key: Secret) -> tuple[ListedKey, ...]:
        data = await self._ask(key, _LIST, {})
        shown = _object(_object(data.get("viewer")).get("apiKeys")).get("edges")
        if not isinstance(shown, list):
            raise DeniedError("W&B does not show its keys", subject=self._base_url, code="hidden")
        nodes = [_object(_object(edge).get("node")) for edge in shown]
        return tuple(
            ListedKey(str(node["id"]), str(node.get("description") or ""))
            for node in nodes
            if node.get("id")
        )

    async def delete(self, key: Secret, key_id: str) -> None:
        try:
            await self._ask(key, _DELETE, {"id": key_id})
        except RejectedError as error:
            if error.code != "gone":
                raise

    async def _ask(self, key: Secret, query: str, variables: dict[str, str]) -> dict[str, Any]:
        import aiohttp

        try:
            async with self._transport.session().post(
                f"{self._base_url}/graphql",
                json={"query": query, "variables": variables},
                headers={
                    "Authorization": aiohttp.encode_basic_auth("api", key.reveal()),
                    "User-Agent": _user_agent(),
                },
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
                **self._transport.by_proxy(self._base_url),
            ) as response:
                body = await response.read()
                status, pause = response.status, response.headers.get("Retry-After") or ""
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            # The request of a client error holds the header with the key: it is not kept.
            code, text, remedy = cause_of(error, "W&B")
            raise UnavailableError(text, subject=self._base_url, code=code, remedy=remedy) from None
        return self._data(status, pause, body)

    def _data(self, status: int, pause: str, body: bytes) -> dict[str, Any]:
        try:
            answer = orjson.loads(body)
        except ValueError:
            answer = None
        errors = answer.get("errors") if isinstance(answer, dict) else None
        said = str(errors).lower() if errors else ""
        subject, code = self._base_url, str(status)
        if status == 429:
            raise ThrottledError(
                "W&B asks for a pause",
                subject=subject,
                code=code,
                retry_after=parse_retry_after(pause),
            )
        if any(text in said for text in _GONE):
            raise RejectedError("W&B has no such key", subject=subject, code="gone")
        if status in (401, 403) or "permission" in said or "relogin" in said:
            raise DeniedError("W&B does not allow it", subject=subject, code=code)
        if 400 <= status < 500 or (status == 200 and errors):
            # The text of the answer is not kept: it may repeat what was asked.
            raise RejectedError("W&B refused", subject=subject, code=code)
        data = answer.get("data") if isinstance(answer, dict) else None
        if status != 200 or not isinstance(data, dict):
            raise UnavailableError(
                f"W&B's answer ({code}) says nothing", subject=subject, code=code
            )
        return data


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


@lru_cache(maxsize=1)
def _user_agent() -> str:
    """Return the name under which the SDK asks, and ours behind it."""
    from importlib.metadata import version

    return f"W&B Public Client {version('wandb')} wandb-finetune-relay"
