"""W&B's GraphQL and ingest endpoints: one request, its data or one of our errors.

A key goes to the configured host only, as Basic authentication, and is read before each try: it
may be replaced meanwhile. Texts of answers decide which error it is and are not kept: they may
repeat the request. What an error means for a run or a key is decided elsewhere.

Source: recorded from wandb 0.31.0 (docs/fidelity.md); the SDK's issues 2484, 4948, 6593 and 7118
on GitHub for texts of refusals, checked 2026-11-24.
"""

import base64
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from functools import partial
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
"""The key of a request, or a function that returns the one to use if it starts now."""
USER_AGENT: Final = "wandb-finetune-relay"
_NOT_THERE: Final = "(?:not found|does not exist)"
_NO_LOGIN: Final = "^401|not logged in|relogin|unauthorized"
_NO_RIGHT: Final = "(?s)^403 .|permission denied|permission_error|forbidden"
_DELETED: Final = "a run with this id was deleted in W&B; its id cannot be used again"
_REDIRECTS: Final = (
    "W&B's address redirects; redirects are not followed, because the key would go with them"
)
_PLACE: Final = (
    "set WANDB_ENTITY and WANDB_PROJECT, or the account's wandb-entity and wandb-project tags, to a"
    " team and a project of W&B"
)
_REMEDIES: Final = {
    "401": "store a valid W&B key as a new version of the secret; the relay resumes with it",
    "403": "give the key's owner access to the W&B project, or set WANDB_ENTITY and WANDB_PROJECT (or"
    " the account's wandb-entity and wandb-project tags) to one it may write to",
    "run": "give the key's owner write access to the W&B project",
    "blocked": "allow the app in the proxy or firewall in front of W&B",
    "Redirect": "set WANDB_BASE_URL to the address that W&B redirects to",
    "deleted": "none needed: the job continues in a new run with a numbered id",
    "entity": _PLACE,
    "project": _PLACE,
    "graphql": "check the names of the W&B entity and project",
    "400": "check the lengths and characters of the W&B entity, the project and the job's names",
    "402": "check plan, usage and billing of the W&B organization",
    "404": "retried automatically; if this persists, check WANDB_BASE_URL and any proxy on the"
    " way to W&B",
    "410": "check that the project exists in W&B, then re-sync the job",
    "413": "the run keeps what it has; on a self-hosted W&B, raise the limit for request bodies",
    "422": "check the names of the W&B entity and project, and the version of a self-hosted W&B",
}
"""By the error's code. A missing run needs none: the app asks for it again."""


def _missing(thing: str) -> str:
    return rf"\b{thing}\b.*?{_NOT_THERE}|(?:could not find|no such) {thing}"


type _Rule = tuple[str, type[AppError], str, str]
"""A pattern, the error that it means, its code and text. The pattern is searched in the answer's
status, a blank, and W&B's own messages in lower case. The first match decides."""
_OF_BOTH: Final[tuple[_Rule, ...]] = (
    (_NO_LOGIN, DeniedError, "401", "W&B does not accept the key in use"),
    ("^429|rate limit", ThrottledError, "", "W&B limits the rate"),
    (_NO_RIGHT, DeniedError, "403", "the W&B key may not write to this entity and project"),
    ("^403", DeniedError, "blocked", "something between the app and W&B refuses the request"),
    ("^3", UnavailableError, "Redirect", _REDIRECTS),
)
_BY_STATUS: Final[tuple[_Rule, ...]] = (
    # Two writes met; the same request succeeds a moment later.
    ("^409", UnavailableError, "409", "W&B is busy with this run"),
    ("^400", RejectedError, "400", "W&B refuses the request as invalid"),
    ("^402", RejectedError, "402", "W&B refuses more data under its current plan"),
    ("^410", RejectedError, "410", "the run or its project was deleted in W&B"),
    ("^413", RejectedError, "413", "W&B refuses the request as too large"),
    ("^422", RejectedError, "422", "W&B cannot process the request"),
)
_OF_GRAPHQL: Final[tuple[_Rule, ...]] = (
    *_OF_BOTH,
    ("previously created and deleted", RejectedError, "deleted", _DELETED),
    (_missing("entity"), RejectedError, "entity", "W&B knows no such entity"),
    (_missing("project"), RejectedError, "project", "W&B knows no such project"),
    (_missing("run"), MissingError, "run", "W&B has no such run"),
    (_NOT_THERE, RejectedError, "missing", "W&B found nothing under this name"),
    ("^404", UnavailableError, "404", "W&B's GraphQL endpoint was not found"),
    *_BY_STATUS,
    ("^2", RejectedError, "graphql", "W&B refuses the request"),
)
_OF_STREAM: Final[tuple[_Rule, ...]] = (
    ("^403", DeniedError, "run", "W&B does not let this key write to the run"),
    ("^404", MissingError, "run", "W&B did not find the run"),
    *_OF_BOTH,
    *_BY_STATUS,
)


class WandbApi:
    """The endpoints under one base URL."""

    def __init__(
        self,
        transport: Transport,
        base_url: str,
        *,
        timeout_s: float | None = None,
        agent: str = USER_AGENT,
        repeat: bool = True,
    ) -> None:
        """`timeout_s` bounds each try; None leaves the session's own limits. `repeat` off sends
        each document once, for operations that must not run twice."""
        self.base_url, self._agent, self._repeat = base_url, agent, repeat
        self._graphql = Http(transport, "W&B", partial(_explain, _OF_GRAPHQL), timeout_s=timeout_s)
        self._files = Http(transport, "W&B", partial(_explain, _OF_STREAM), timeout_s=timeout_s)

    async def ask(
        self, document: str, variables: Mapping[str, Any], *, key: KeySource, subject: str = ""
    ) -> dict[str, Any]:
        """Post a GraphQL document and return the answer's `data`.

        Raises our errors about `subject`, by default the server: DeniedError (code 401: the key is
        refused; 403: it has no right; `blocked`: not W&B refused it, but a proxy on the way),
        RejectedError (code `entity`, `project`, `deleted`, `missing`, `graphql`, or the status),
        MissingError (code `run`), or a TemporaryError.
        """
        subject = subject or self.base_url
        return await self._graphql.request(
            "POST",
            f"{self.base_url}/graphql",
            lambda answer: _data(answer, subject),
            headers=lambda: self._headers(key),
            body=orjson.dumps({"query": document, "variables": variables}),
            subject=subject,
            repeat=self._repeat,
        )

    async def stream[T](
        self, path: str, body: bytes, read: Callable[[Answer], T], *, key: KeySource, subject: str
    ) -> T:
        """Post a `file_stream` body for the run `path` and return what `read` makes of the answer.

        Raises as `ask` does. After 403 or 404 the error's code is `run`: either may be temporary,
        and only asking for the run again shows whether it is gone.
        """
        return await self._files.request(
            "POST",
            f"{self.base_url}/files/{path}/file_stream",
            read,
            headers=lambda: self._headers(key),
            body=body,
            subject=subject,
        )

    async def _headers(self, key: KeySource) -> dict[str, str]:
        value = key if isinstance(key, Secret) else await key()
        basic = base64.b64encode(b"api:" + value.reveal().encode()).decode()
        return {
            "Authorization": f"Basic {basic}",
            "Content-Type": "application/json",
            "User-Agent": self._agent,
        }


def _data(answer: Answer, subject: str) -> dict[str, Any]:
    body = answer.json()
    if not isinstance(body, dict):
        body = {}
    if body.get("errors") and (error := _explain(_OF_GRAPHQL, answer, subject)):
        raise error
    data = body.get("data")
    if not isinstance(data, dict):
        raise UnavailableError("W&B's answer holds no data", subject=subject, code="NotJson")
    return data


def _explain(rules: Iterable[_Rule], answer: Answer, subject: str) -> AppError | None:
    found = f"{answer.status} {_said(answer)}"
    rule = next((rule for rule in rules if re.search(rule[0], found)), None)
    if rule is None or answer.status >= 500:
        return None
    _, kind, code, text = rule
    remedy = "" if kind is MissingError else _REMEDIES.get(code, "")
    error = kind(text, subject=subject, code=code or str(answer.status), remedy=remedy)
    if isinstance(error, ThrottledError):
        # W&B names the pause in either header.
        wait, reset = retry_after(answer.headers), answer.headers.get("ratelimit-reset", "")
        error.retry_after = parse_retry_after(reset) if wait is None else wait
    return error


def _said(answer: Answer) -> str:
    """Return W&B's own messages in lower case, empty if the answer is not W&B's JSON."""
    try:
        body = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return ""
    if not isinstance(body, dict):
        return ""
    return " ".join(_texts(body.get("errors") or body.get("error"))).lower()


def _texts(errors: Any) -> Iterator[str]:
    if isinstance(errors, str):
        yield errors
    elif isinstance(errors, dict | list):
        for item in errors.values() if isinstance(errors, dict) else errors:
            yield from _texts(item)
