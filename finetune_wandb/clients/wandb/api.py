"""W&B's GraphQL and ingest endpoints: one request, its data or one of our errors.

A key goes to the configured host only, as Basic authentication, and is asked for before each try:
it may be replaced meanwhile. Texts of answers decide which error it is and are not kept: they may
repeat what was asked. What an error means for a run or a key is decided elsewhere.

Source: facts/wandb.md 1, 3 and 6; the SDK's issues 2484, 4948, 6593 and 7118 on GitHub for texts
of refusals, checked 2026-11-24.
"""

import base64
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson

from finetune_wandb.clients.http import Answer, Http
from finetune_wandb.clients.translate import parse_retry_after, retry_after
from finetune_wandb.clients.transport import Transport
from finetune_wandb.model.errors import (
    AppError,
    DeniedError,
    MissingError,
    RejectedError,
    ThrottledError,
    UnavailableError,
)
from finetune_wandb.model.secret import Secret

type KeySource = Secret | Callable[[], Awaitable[Secret]]
"""The key of a request, or what returns the one that it may carry if it starts now."""
USER_AGENT: Final = "wandb-finetune-relay"
_NOT_LOGGED_IN: Final = ("not logged in", "relogin", "unauthorized")
_NO_RIGHT: Final = ("permission denied", "permission_error", "forbidden")
_NOT_THERE: Final = "(?:not found|does not exist)"
_NO_ENTITY: Final = re.compile(rf"\bentity\b.*?{_NOT_THERE}|(?:could not find|no such) entity")
_NO_PROJECT: Final = re.compile(rf"\bproject\b.*?{_NOT_THERE}|(?:could not find|no such) project")
_NO_RUN: Final = re.compile(rf"\brun\b.*?{_NOT_THERE}|(?:could not find|no such) run")
_PLACE_REMEDY: Final = (
    "set WANDB_ENTITY and WANDB_PROJECT, or the account's wandb-entity and wandb-project tags, to a"
    " team and a project of W&B"
)
_REFUSALS: Final = {
    400: (
        "W&B refuses the request as invalid",
        "check the lengths and characters of the W&B entity, the project and the job's names",
    ),
    402: (
        "W&B refuses more data under its current plan",
        "check plan, usage and billing of the W&B organization",
    ),
    410: (
        "W&B says that the run or its project is gone for good",
        "check that the project exists in W&B, then re-sync the job",
    ),
    413: (
        "W&B refuses the request as too large",
        "the run keeps what it has; where W&B is self-hosted, raise its limit for request bodies",
    ),
    422: (
        "W&B cannot process the request",
        "check the names of the W&B entity and project, and the version of a self-hosted W&B",
    ),
}


class WandbApi:
    """The endpoints under one base URL."""

    def __init__(
        self, transport: Transport, base_url: str, *, timeout_s: float | None = None
    ) -> None:
        """`timeout_s` bounds each try; None leaves the session's own limits."""
        self.base_url = base_url
        self._graphql = Http(transport, "W&B", _explain_graphql, timeout_s=timeout_s)
        self._files = Http(transport, "W&B", _explain_stream, timeout_s=timeout_s)

    async def ask(
        self,
        document: str,
        variables: Mapping[str, Any],
        *,
        key: KeySource,
        subject: str,
        agent: str = USER_AGENT,
        repeat: bool = True,
    ) -> dict[str, Any]:
        """Post a GraphQL document and return the answer's `data`.

        `repeat` off sends it once, for what must not be done twice. Raises DeniedError (code 401:
        the key is refused; 403: it has no right; `blocked`: W&B did not say no, something on the
        way did), RejectedError (code `entity`, `project`, `deleted`, `missing`, `graphql`, or the
        status), MissingError (code `run`), or a TemporaryError.
        """
        return await self._graphql.request(
            "POST",
            f"{self.base_url}/graphql",
            lambda answer: _data(answer, subject),
            headers=lambda: _headers(key, agent),
            body=orjson.dumps({"query": document, "variables": variables}),
            subject=subject,
            repeat=repeat,
        )

    async def stream[T](
        self,
        path: str,
        body: bytes,
        read: Callable[[Answer], T],
        *,
        key: KeySource,
        subject: str,
    ) -> T:
        """Post a `file_stream` body for the run `path` and return what `read` makes of the answer.

        Raises as `ask` does; where W&B answers 403 or 404, the error's code is `run`: either may
        pass, and only asking for the run again says whether it is gone.
        """
        return await self._files.request(
            "POST",
            f"{self.base_url}/files/{path}/file_stream",
            read,
            headers=lambda: _headers(key, USER_AGENT),
            body=body,
            subject=subject,
        )


async def _headers(key: KeySource, agent: str) -> dict[str, str]:
    value = key if isinstance(key, Secret) else await key()
    basic = base64.b64encode(b"api:" + value.reveal().encode()).decode()
    return {
        "Authorization": f"Basic {basic}",
        "Content-Type": "application/json",
        "User-Agent": agent,
    }


def _data(answer: Answer, subject: str) -> dict[str, Any]:
    body = answer.json()
    if isinstance(body, dict) and body.get("errors"):
        raise _explain_graphql(answer, subject) or RejectedError(
            "W&B refuses the request",
            subject=subject,
            code="graphql",
            remedy="check the names of the W&B entity and project",
        )
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, dict):
        raise UnavailableError("W&B's answer holds no data", subject=subject, code="NotJson")
    return data


def _explain_graphql(answer: Answer, subject: str) -> AppError | None:
    if answer.status >= 500:
        return None
    said = _said(answer)
    if known := _explain(answer, said, subject):
        return known
    if "previously created and deleted" in said:
        return RejectedError(
            "a run with this id was deleted in W&B; its id cannot be used again",
            subject=subject,
            code="deleted",
            remedy="none needed: the job goes on in a new run with a numbered id",
        )
    if _NO_ENTITY.search(said):
        text, code = "W&B knows no such entity", "entity"
        return RejectedError(text, subject=subject, code=code, remedy=_PLACE_REMEDY)
    if _NO_PROJECT.search(said):
        text, code = "W&B knows no such project", "project"
        return RejectedError(text, subject=subject, code=code, remedy=_PLACE_REMEDY)
    if _NO_RUN.search(said):
        return MissingError("W&B has no such run", subject=subject, code="run")
    if re.search(_NOT_THERE, said):
        return RejectedError("W&B has no such thing", subject=subject, code="missing")
    if answer.status == 409:
        # A write that met another one; the same request is right a moment later.
        return UnavailableError("W&B is busy with this run", subject=subject, code="409")
    if answer.status == 404:
        return UnavailableError(
            "W&B's GraphQL endpoint was not found",
            subject=subject,
            code="404",
            remedy="retried automatically; if it lasts, check WANDB_BASE_URL and what is between the"
            " app and W&B",
        )
    return _refusal(answer.status, subject)


def _explain_stream(answer: Answer, subject: str) -> AppError | None:
    if answer.status >= 500:
        return None
    if answer.status == 403:
        return DeniedError(
            "W&B does not let this key write to the run",
            subject=subject,
            code="run",
            remedy="give the key's owner write access to the W&B project",
        )
    if answer.status == 404:
        return MissingError("W&B did not find the run", subject=subject, code="run")
    said = _said(answer)
    if known := _explain(answer, said, subject):
        return known
    if answer.status == 409:
        return UnavailableError("W&B is busy with this run", subject=subject, code="409")
    return _refusal(answer.status, subject)


def _explain(answer: Answer, said: str, subject: str) -> AppError | None:
    """Name what both endpoints mean alike: refused keys, missing rights, limits, redirects."""
    status = answer.status
    if status == 401 or any(text in said for text in _NOT_LOGGED_IN):
        return DeniedError(
            "W&B does not accept the key in use",
            subject=subject,
            code="401",
            remedy="store a valid W&B key as a new version of the secret; the relay resumes with it",
        )
    if status == 429 or "rate limit" in said:
        # W&B names the pause in either header.
        wait = retry_after(answer.headers)
        if wait is None:
            wait = parse_retry_after(answer.headers.get("ratelimit-reset", ""))
        return ThrottledError(
            "W&B limits the rate", subject=subject, code=str(status), retry_after=wait
        )
    if any(text in said for text in _NO_RIGHT) or (status == 403 and said):
        return DeniedError(
            "the W&B key may not write to this entity and project",
            subject=subject,
            code="403",
            remedy="give the key's owner access to the W&B project, or set WANDB_ENTITY and"
            " WANDB_PROJECT (or the account's wandb-entity and wandb-project tags) to one it may"
            " write to",
        )
    if status == 403:
        return DeniedError(
            "something between the app and W&B refuses the request",
            subject=subject,
            code="blocked",
            remedy="let the app through the proxy or firewall in front of W&B",
        )
    if 300 <= status < 400:
        return UnavailableError(
            "W&B's address redirects; redirects are not followed, since a key would travel along",
            subject=subject,
            code="Redirect",
            remedy="set WANDB_BASE_URL to the address that answers itself",
        )
    return None


def _refusal(status: int, subject: str) -> AppError | None:
    if status not in _REFUSALS:
        return None
    text, remedy = _REFUSALS[status]
    return RejectedError(text, subject=subject, code=str(status), remedy=remedy)


def _said(answer: Answer) -> str:
    """Return W&B's own messages in lower case, empty where the answer is not W&B's JSON."""
    try:
        body = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return ""
    if not isinstance(body, dict):
        return ""
    errors = body.get("errors") or body.get("error") or ""
    return " ".join(_texts(errors)).lower()


def _texts(errors: Any) -> list[str]:
    if isinstance(errors, str):
        return [errors]
    if isinstance(errors, dict):
        return _texts(list(errors.values()))
    if isinstance(errors, list):
        return [text for item in errors for text in _texts(item)]
    return []
