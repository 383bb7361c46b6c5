"""W&B runs over the ingest protocol: create or update a run, send rows.

Source: facts/wandb.md 1.3, 2 and 4, recorded from wandb 0.31.0; tests/parity holds what the
server ends up with against the SDK's own. Deliberately not through the SDK: it hides lost rows,
and costs 20 to 50 times as much (facts/wandb.md 8.4).
"""

import base64
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import orjson

from finetune_wandb.clients.http import Answer, Http, error_for, retry_after
from finetune_wandb.clients.pacing import Pacing
from finetune_wandb.clients.translate import parse_retry_after
from finetune_wandb.clients.transport import Transport
from finetune_wandb.model.cursor import RunPath
from finetune_wandb.model.errors import (
    AppError,
    DeniedError,
    MissingError,
    RejectedError,
    ThrottledError,
    UnavailableError,
)
from finetune_wandb.model.relay_ports import RunAlert, RunAttributes, RunKey

USER_AGENT: Final = "wandb-finetune-relay"
_X_AXIS: Final = [
    # `step` is the x axis of every metric; the number is the 1-based place of the axis here.
    {"2": "*", "5": 2, "6": [1], "7": []},
    {"1": "step", "6": [], "7": []},
]
_TELEMETRY: Final = {"12": USER_AGENT}
"""The SDK takes a run for its own to resume only where this object exists."""
_UPSERT: Final = (
    "mutation UpsertBucket($name: String!, $entity: String, $project: String, "
    "$displayName: String, $groupName: String, $jobType: String, $notes: String, "
    "$tags: [String!], $config: JSONString, $state: String) { upsertBucket(input: {"
    "name: $name, entityName: $entity, modelName: $project, displayName: $displayName, "
    "groupName: $groupName, jobType: $jobType, notes: $notes, tags: $tags, "
    "config: $config, state: $state}) "
    "{ bucket { id name project { name entity { name } } } inserted } }"
)

_ALERT: Final = (
    "mutation NotifyScriptableRunAlert($entityName: String!, $projectName: String!, "
    "$runName: String!, $title: String!, $text: String!, $severity: AlertSeverity) { "
    "notifyScriptableRunAlert(input: {entityName: $entityName, projectName: $projectName, "
    "runName: $runName, title: $title, text: $text, severity: $severity}) { success } }"
)


class WandbSink:
    """SinkPort over HTTP. Keys go to the configured host only, as Basic authentication."""

    def __init__(
        self, transport: Transport, base_url: str, *, pacing: Pacing | None = None
    ) -> None:
        self._base_url = base_url
        self._http = Http(transport, "W&B", _explain)
        self._pacing = pacing or Pacing()

    async def ensure_run(
        self, run: RunPath, attributes: RunAttributes, *, pending: bool, key: RunKey
    ) -> RunPath:
        config: dict[str, Any] = {
            name: {"value": value} for name, value in attributes.config.items()
        }
        config["_wandb"] = {"value": {"t": _TELEMETRY, "m": _X_AXIS}}
        variables = {
            "name": run.run_id,
            "entity": run.entity,
            "project": run.project,
            "displayName": attributes.display_name,
            "groupName": attributes.group,
            "jobType": attributes.job_type,
            "notes": attributes.notes,
            "tags": list(attributes.tags),
            "config": orjson.dumps(config).decode(),
            **({"state": "pending"} if pending else {}),
        }
        return await self._http.request(
            "POST",
            f"{self._base_url}/graphql",
            lambda answer: _run_path(answer, run),
            headers=partial(_headers, key),
            body=orjson.dumps(
                {"operationName": "UpsertBucket", "query": _UPSERT, "variables": variables}
            ),
            subject=str(run),
        )

    async def post(self, run: RunPath, body: bytes, *, key: RunKey) -> bool:
        path = "/".join(quote(part, safe="") for part in (run.entity, run.project, run.run_id))
        project = f"{run.entity}/{run.project}"

        async def headers() -> dict[str, str]:
            # Asked for before each try: repetitions keep to the pace as well.
            await self._pacing.turn(path, project)
            return await _headers(key)

        def read(answer: Answer) -> bool:
            self._pacing.heed(project, answer.headers)
            return _stopped(answer)

        return await self._http.request(
            "POST",
            f"{self._base_url}/files/{path}/file_stream",
            read,
            headers=headers,
            body=body,
            subject=str(run),
        )

    async def alert(self, run: RunPath, alert: RunAlert, *, key: RunKey) -> None:
        await self._http.request(
            "POST",
            f"{self._base_url}/graphql",
            _accepted,
            headers=partial(_headers, key),
            body=orjson.dumps(
                {
                    "operationName": "NotifyScriptableRunAlert",
                    "query": _ALERT,
                    "variables": {
                        "entityName": run.entity,
                        "projectName": run.project,
                        "runName": run.run_id,
                        "title": alert.title,
                        "text": alert.text,
                        "severity": alert.level,
                    },
                }
            ),
            subject=str(run),
        )


def _accepted(answer: Answer) -> None:
    body = answer.json()
    if isinstance(body, dict) and (errors := body.get("errors")):
        raise _graphql_error(errors, "")


async def _headers(key: RunKey) -> dict[str, str]:
    value = await key.current()
    basic = base64.b64encode(b"api:" + value.reveal().encode()).decode()
    return {
        "Authorization": f"Basic {basic}",
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
    }


def _stopped(answer: Answer) -> bool:
    # W&B has accepted the rows with its 2xx; a body that cannot be read only hides a Stop.
    try:
        body = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(body, dict) and body.get("stopped") is True


def _run_path(answer: Answer, asked: RunPath) -> RunPath:
    body = answer.json()
    if not isinstance(body, dict):
        raise UnavailableError("W&B answered no object", subject=str(asked), code="NotJson")
    if errors := body.get("errors"):
        raise _graphql_error(errors, str(asked))
    try:
        bucket = body["data"]["upsertBucket"]["bucket"]
        project = bucket["project"]
        return RunPath(str(project["entity"]["name"]), str(project["name"]), str(bucket["name"]))
    except (KeyError, TypeError):
        raise UnavailableError(
            "W&B's answer names no run", subject=str(asked), code="NotJson"
        ) from None


def _graphql_error(errors: Any, subject: str) -> AppError:
    """Return our error for a GraphQL error that came with HTTP 200."""
    message = ""
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        message = str(errors[0].get("message") or "")
    lowered = message.lower()
    if "permission denied" in lowered:
        return _denied_project(subject)
    if "deleted" in lowered:
        return _deleted(subject)
    if "rate limit" in lowered:
        return ThrottledError("W&B limits the rate", subject=subject, code="RateLimit")
    return RejectedError(
        "W&B refused to create the run",
        subject=subject,
        code="graphql",
        remedy="check the names of the W&B entity and project",
    )


def _explain(answer: Answer, subject: str) -> AppError | None:
    """Name the failures that W&B means something special by."""
    if answer.status == 401:
        return DeniedError(
            "W&B does not accept the key in use",
            subject=subject,
            code="401",
            remedy="store a valid W&B key as a new version of the secret; relaying resumes by itself",
        )
    if answer.status == 403:
        return _denied_project(subject)
    if answer.status == 409 and b"deleted" in answer.body:
        return _deleted(subject)
    if answer.status == 409:
        # A write that met another one; the same request is right a moment later.
        return UnavailableError("W&B is busy with this run", subject=subject, code="409")
    if answer.status == 404 and b"rate limit" not in answer.body:
        return MissingError("W&B has no such run", subject=subject, code="run")
    if answer.status == 429:
        # W&B names the pause in either header.
        reset = answer.headers.get("ratelimit-reset", "")
        wait = retry_after(answer)
        if wait is None:
            wait = parse_retry_after(reset)
        return ThrottledError("W&B limits the rate", subject=subject, code="429", retry_after=wait)
    if answer.status < 500:
        return error_for(answer, "W&B", subject)
    return None


def _denied_project(subject: str) -> DeniedError:
    return DeniedError(
        "the W&B key may not write to this entity and project",
        subject=subject,
        code="403",
        remedy="give the key's owner access to the W&B project, or set WANDB_ENTITY and"
        " WANDB_PROJECT (or the account's wandb-entity and wandb-project tags) to one it may write to",
    )


def _deleted(subject: str) -> RejectedError:
    return RejectedError(
        "a run with this id was deleted in W&B; its id cannot be used again",
        subject=subject,
        code="deleted",
        remedy="a new run with a numbered id takes its place by itself",
    )
