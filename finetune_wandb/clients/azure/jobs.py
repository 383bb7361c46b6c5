"""The fine-tuning and files API of an account, v1 paths; it only reads, but for a cancel.

Source: facts/azure.md 4.1 (OpenAI.v1 specification): lists are paged by `after` and `limit` and
say `has_more`; result files come as octet streams.
"""

import contextlib
import hashlib
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, urlsplit

from finetune_wandb.clients.http import Answer, Http
from finetune_wandb.clients.transport import Transport
from finetune_wandb.model.account import RelayAccount
from finetune_wandb.model.errors import AppError, DeniedError, RejectedError, UnavailableError
from finetune_wandb.model.relay_ports import Listing

_HOSTS = (
    ".openai.azure.com",
    ".cognitiveservices.azure.com",
    ".services.ai.azure.com",
    ".openai.azure.us",
    ".cognitiveservices.azure.us",
    ".openai.azure.cn",
    ".cognitiveservices.azure.cn",
)
"""A token for the fine-tuning API is sent to no other host, whatever an account's endpoint says."""
_NAME = re.compile(r"^[a-z0-9.-]+$")
"""Not every reader of URLs takes a backslash for a part of the name."""


class Jobs:
    """JobsPort over HTTP."""

    def __init__(self, transport: Transport, token_scope: str) -> None:
        self._transport = transport
        self._scope = token_scope
        self._bases: dict[str, str] = {}
        """Where requests to an endpoint begin, once it was found to be Azure's."""
        self._http = Http(transport, "the fine-tuning API", _explain)

    async def list_jobs(
        self, account: RelayAccount, after: str | None, limit: int, *, known: bytes = b""
    ) -> Listing:
        return await self._list(account, "fine_tuning/jobs", after, limit, known)

    async def read_job(self, account: RelayAccount, job: str) -> dict[str, Any]:
        return await self._http.request(
            "GET",
            self._url(account, f"fine_tuning/jobs/{quote(job, safe='')}"),
            _object,
            headers=await self._headers(),
            subject=job,
        )

    async def cancel_job(self, account: RelayAccount, job: str) -> None:
        """Cancel a job; one that is over already is as good."""
        with contextlib.suppress(RejectedError):
            await self._http.request(
                "POST",
                self._url(account, f"fine_tuning/jobs/{quote(job, safe='')}/cancel"),
                _object,
                headers=await self._headers(),
                subject=job,
            )

    async def list_events(
        self, account: RelayAccount, job: str, after: str | None, limit: int
    ) -> Listing:
        path = f"fine_tuning/jobs/{quote(job, safe='')}/events"
        return await self._list(account, path, after, limit)

    async def list_checkpoints(
        self, account: RelayAccount, job: str, after: str | None, limit: int
    ) -> Listing:
        path = f"fine_tuning/jobs/{quote(job, safe='')}/checkpoints"
        return await self._list(account, path, after, limit)

    async def describe_file(self, account: RelayAccount, file_id: str) -> dict[str, Any]:
        return await self._http.request(
            "GET",
            self._url(account, f"files/{quote(file_id, safe='')}"),
            _object,
            headers=await self._headers(),
            subject=file_id,
        )

    async def read_file(self, account: RelayAccount, file_id: str) -> AsyncIterator[bytes]:
        url = self._url(account, f"files/{quote(file_id, safe='')}/content")
        async for chunk in self._http.stream(url, headers=await self._headers(), subject=file_id):
            yield chunk

    async def _list(
        self,
        account: RelayAccount,
        path: str,
        after: str | None,
        limit: int,
        known: bytes | None = None,
    ) -> Listing:
        place = f"&after={quote(after, safe='')}" if after else ""
        return await self._http.request(
            "GET",
            f"{self._url(account, path)}?limit={limit}{place}",
            lambda answer: _listing(answer, known),
            headers=await self._headers(),
            subject=account.name,
        )

    def _url(self, account: RelayAccount, path: str) -> str:
        base = self._bases.get(account.endpoint)
        if base is None:
            base = self._bases[account.endpoint] = self._transport.url(_base_url(account))
        return f"{base}/{path}"

    async def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {await self._transport.token(self._scope)}"}


def _base_url(account: RelayAccount) -> str:
    """Return where the account's API begins. Raises RejectedError for an endpoint not of Azure."""
    host = (urlsplit(account.endpoint).hostname or "").lower()
    is_https = account.endpoint.startswith("https://")
    if not is_https or not host.endswith(_HOSTS) or not _NAME.fullmatch(host):
        raise RejectedError(
            "the account's endpoint is not an Azure OpenAI address",
            subject=str(account.id),
            code="endpoint",
            remedy="check the endpoint of the account in the Azure portal",
        )
    return f"https://{host}/openai/v1"


def _explain(answer: Answer, subject: str) -> AppError | None:
    """Name a refused token, so that nobody takes it for a W&B key that was refused; and a right
    that is missing, with its remedy."""
    if answer.status == 403:
        return DeniedError(
            "the fine-tuning API says that the app's identity may not do this",
            subject=subject,
            code="403",
            remedy="give the app's identity the role Cognitive Services OpenAI User on the account or"
            " its subscription (OpenAI Contributor for ON_WANDB_STOP=cancel; roles take some minutes"
            " to spread); where the account has a firewall, let the app in",
        )
    if answer.status != 401:
        return None
    return DeniedError(
        "the fine-tuning API does not accept the app's token",
        subject=subject,
        code="token",
        remedy="check OPENAI_TOKEN_SCOPE, and that the account has a custom subdomain",
    )


def _object(answer: Answer) -> dict[str, Any]:
    body = answer.json()
    if not isinstance(body, dict):
        raise UnavailableError("the fine-tuning API answered no object", code="NotJson")
    return body


def _listing(answer: Answer, known: bytes | None) -> Listing:
    """Return a page; with a digest only where it is asked for, as `known`, even an empty one."""
    digest = b"" if known is None else hashlib.blake2b(answer.body, digest_size=16).digest()
    if known and digest == known:
        # An idle account's listing is the same bytes each minute; reading them is most of a tick.
        return Listing([], has_more=False, digest=digest, unchanged=True)
    body = _object(answer)
    items = body.get("data")
    if not isinstance(items, list):
        raise UnavailableError("the fine-tuning API answered no list", code="NotJson")
    objects = [item for item in items if isinstance(item, dict)]
    dropped = len(items) - len(objects)
    return Listing(objects, body.get("has_more") is True, digest, unusable=dropped)
