"""The fine-tuning and files API of an account, v1 paths; read-only, except for a cancel.

Source: the OpenAI.v1 specification (docs/fidelity.md): lists are paged by `after` and `limit` and
have `has_more`; result files come as octet streams.
"""

import hashlib
import re
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

from finetune_wandb.clients.http import Answer, Http, error_code
from finetune_wandb.clients.transport import Transport
from finetune_wandb.model.accounts.account import RelayAccount
from finetune_wandb.model.audit import AuditEntry, AuditPort, recorded
from finetune_wandb.model.errors import (
    AppError,
    DeniedError,
    NotReadyError,
    RejectedError,
    UnavailableError,
)
from finetune_wandb.model.relay.job import TERMINAL
from finetune_wandb.model.relay.ports import Listing

_HOST = re.compile(
    r"[a-z0-9.-]+\.(?:(?:openai|cognitiveservices)\.azure\.(?:com|us|cn)|services\.ai\.azure\.com)"
)
"""A token for the fine-tuning API is sent to no other host, whatever an account's endpoint says.
Not every URL parser reads a backslash as part of the name."""
_COGNITIVE = "https://cognitiveservices.azure.com/.default"
_FOUNDRY = "https://ai.azure.com/.default"
_ROLE_WAIT_S = 60.0
"""A new role takes minutes to take effect; until then each account costs one request a minute."""


class Jobs:
    """JobsPort over HTTP."""

    def __init__(self, transport: Transport, token_scope: str) -> None:
        self._transport = transport
        self._scope = token_scope
        self._scopes: dict[str, str] = {}
        """The scope that an endpoint accepted after it refused the first one."""
        self._http = Http(transport, "the fine-tuning API", _explain)

    async def list_jobs(
        self, account: RelayAccount, after: str | None, limit: int, *, known: bytes = b""
    ) -> Listing:
        return await self._list(account, "fine_tuning/jobs", after, limit, known)

    async def read_job(self, account: RelayAccount, job: str) -> dict[str, Any]:
        return await self._ask("GET", account, _path_of(job), _object, job)

    async def cancel_job(self, account: RelayAccount, job: str) -> None:
        """Cancel a job; a no-op if it is over. Raises RejectedError if it continues."""
        try:
            await self._ask("POST", account, f"{_path_of(job)}/cancel", _object, job)
        except RejectedError:
            if (await self.read_job(account, job)).get("status") not in TERMINAL:
                raise

    async def list_events(
        self, account: RelayAccount, job: str, after: str | None, limit: int
    ) -> Listing:
        return await self._list(account, f"{_path_of(job)}/events", after, limit)

    async def list_checkpoints(
        self, account: RelayAccount, job: str, after: str | None, limit: int
    ) -> Listing:
        return await self._list(account, f"{_path_of(job)}/checkpoints", after, limit)

    async def describe_file(self, account: RelayAccount, file_id: str) -> dict[str, Any]:
        return await self._ask("GET", account, f"files/{quote(file_id, safe='')}", _object, file_id)

    async def read_file(self, account: RelayAccount, file_id: str) -> AsyncIterator[bytes]:
        url = self._url(account, f"files/{quote(file_id, safe='')}/content")
        headers = await self._headers(self._scope_of(account))
        async for chunk in self._http.stream(url, headers=headers, subject=file_id):
            yield chunk

    async def _list(
        self,
        account: RelayAccount,
        path: str,
        after: str | None,
        limit: int,
        known: bytes | None = None,
    ) -> Listing:
        path += f"?limit={limit}" + (f"&after={quote(after, safe='')}" if after else "")
        read = partial(_listing, known=known)
        return await self._ask("GET", account, path, read, account.name)

    async def _ask[T](
        self,
        method: str,
        account: RelayAccount,
        path: str,
        read: Callable[[Answer], T],
        subject: str,
    ) -> T:
        """Send a request; if its token has the wrong audience, once more with the other scope."""
        url, scope = self._url(account, path), self._scope_of(account)
        other = _FOUNDRY if scope != _FOUNDRY else _COGNITIVE

        async def ask(scope: str) -> T:
            headers = await self._headers(scope)
            return await self._http.request(method, url, read, headers=headers, subject=subject)

        try:
            return await ask(scope)
        except DeniedError as error:
            if error.code != "audience":
                raise
        answer = await ask(other)
        self._scopes[account.endpoint] = other
        return answer

    def _scope_of(self, account: RelayAccount) -> str:
        return self._scopes.get(account.endpoint, self._scope)

    def _url(self, account: RelayAccount, path: str) -> str:
        """Return the address of a path. Raises RejectedError for an endpoint not of Azure."""
        host = (urlsplit(account.endpoint).hostname or "").lower()
        if not account.endpoint.startswith("https://") or not _HOST.fullmatch(host):
            raise RejectedError(
                "the account's endpoint is not an Azure OpenAI address",
                subject=str(account.id),
                code="endpoint",
                remedy="check the endpoint of the account in the Azure portal",
            )
        return self._transport.url(f"https://{host}/openai/v1/{path}")

    async def _headers(self, scope: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {await self._transport.token(scope)}"}


class RecordedJobs(Jobs):
    """The same, with each cancel in the audit."""

    def __init__(self, transport: Transport, token_scope: str, audit: AuditPort) -> None:
        super().__init__(transport, token_scope)
        self._audit = audit
        self._began: dict[tuple[str, str], datetime] = {}
        """What Azure refuses is tried with every pass: one entry a process, not one a minute."""

    async def cancel_job(self, account: RelayAccount, job: str) -> None:
        place = account.key, job
        entry = AuditEntry(
            at=self._began.setdefault(place, datetime.now(UTC)),
            action="cancel_job",
            subject=str(account.id),
            outcome="begun",
            cause="stopped_in_wandb",
            trigger="relay",
            detail={"job": job},
        )
        async with recorded(self._audit, entry):
            await super().cancel_job(account, job)
        del self._began[place]


def _path_of(job: str) -> str:
    return f"fine_tuning/jobs/{quote(job, safe='')}"


def _explain(answer: Answer, subject: str) -> AppError | None:
    """Name a missing role, a token of the wrong audience and a firewall.

    Source: Azure/azure-docs issue 114370 and Microsoft's page on troubleshooting Azure OpenAI
    errors (checked 2026-11-24): 401 with `PermissionDenied` is a missing or new role, 403 the
    network.
    """
    if answer.status not in (401, 403):
        return None
    if error_code(answer) == "PermissionDenied":
        return NotReadyError(
            "the app's identity has no role on the account yet",
            subject=subject,
            code="PermissionDenied",
            retry_after=_ROLE_WAIT_S,
            remedy="give the app's identity the role Cognitive Services OpenAI User on the account"
            " or its subscription (OpenAI Contributor for ON_WANDB_STOP=cancel); a new role takes some"
            " minutes to take effect, and the relay starts then",
        )
    if answer.status == 403:
        code, text = "403", "the account's network rules do not let the app in"
        remedy = (
            "allow the app in the account's firewall: its virtual network, its private"
            " endpoint, or the outbound addresses of the function app"
        )
    elif b"audience is incorrect" in answer.body.lower():
        code, text = "audience", "the fine-tuning API does not accept tokens of this audience"
        remedy = f"set OPENAI_TOKEN_SCOPE to {_COGNITIVE} or {_FOUNDRY}"
    else:
        code, text = "token", "the fine-tuning API does not accept the app's token"
        remedy = "check OPENAI_TOKEN_SCOPE, and that the account has a custom subdomain"
    return DeniedError(text, subject=subject, code=code, remedy=remedy)


def _object(answer: Answer) -> dict[str, Any]:
    body = answer.json()
    if not isinstance(body, dict):
        raise UnavailableError("the fine-tuning API's answer is not an object", code="NotJson")
    return body


def _listing(answer: Answer, known: bytes | None) -> Listing:
    """Return a page; with a digest only if `known` is given, even an empty one."""
    digest = b"" if known is None else hashlib.blake2b(answer.body, digest_size=16).digest()
    if known and digest == known:
        # An idle account's listing has the same bytes each minute; parsing them is most of a tick.
        return Listing([], has_more=False, digest=digest, unchanged=True)
    body = _object(answer)
    items = body.get("data")
    if not isinstance(items, list):
        raise UnavailableError("the fine-tuning API's answer is not a list", code="NotJson")
    objects = [item for item in items if isinstance(item, dict)]
    dropped = len(items) - len(objects)
    return Listing(objects, body.get("has_more") is True, digest, unusable=dropped)
