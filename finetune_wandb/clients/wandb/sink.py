"""W&B runs over the ingest protocol: create or update a run, send rows at the pace W&B allows.

Source: recorded from wandb 0.31.0 (docs/fidelity.md); tests/parity compares the stored runs with
those of the SDK. Deliberately not through the SDK: it hides lost rows and is many times slower
(docs/performance.md).
"""

import asyncio
import json
import math
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import orjson

from finetune_wandb.clients.http import Answer
from finetune_wandb.clients.translate import parse_retry_after
from finetune_wandb.clients.transport import Transport
from finetune_wandb.clients.wandb.api import USER_AGENT, WandbApi
from finetune_wandb.model.errors import UnavailableError
from finetune_wandb.model.relay.cursor import RunPath
from finetune_wandb.model.relay.ports import EnsuredRun, RunAlert, RunAttributes, RunKey, RunSeen
from finetune_wandb.model.secret import Secret

_X_AXIS: Final = [
    # `step` is the x axis of every metric; the number is the 1-based place of the axis here.
    {"2": "*", "5": 2, "6": [1], "7": []},
    {"1": "step", "6": [], "7": []},
]
_TELEMETRY: Final = {"12": USER_AGENT}
"""The SDK resumes a run only if this object exists."""
_UPSERT: Final = (
    "mutation UpsertBucket($name: String!, $entity: String, $project: String, "
    "$displayName: String, $groupName: String, $jobType: String, $notes: String, "
    "$tags: [String!], $config: JSONString, $state: String) { upsertBucket(input: {"
    "name: $name, entityName: $entity, modelName: $project, displayName: $displayName, "
    "groupName: $groupName, jobType: $jobType, notes: $notes, tags: $tags, "
    "config: $config, state: $state}) "
    "{ bucket { id name project { name entity { name } } } inserted } }"
)
_RUN: Final = (
    "query RelayedRun($name: String!, $entity: String, $project: String) { "
    "model(name: $project, entityName: $entity) { bucket(name: $name, missingOk: true) { "
    "state historyLineCount logLineCount summaryMetrics config tags } } }"
)
_ALERT: Final = (
    "mutation NotifyScriptableRunAlert($name: String!, $entity: String!, $project: String!, "
    "$title: String!, $text: String!, $severity: AlertSeverity, $waitDuration: Duration) "
    "{ notifyScriptableRunAlert(input: {entityName: $entity, projectName: $project, "
    "runName: $name, title: $title, text: $text, severity: $severity, "
    "waitDuration: $waitDuration}) { success } }"
)
_ALERT_ONCE_MS: Final = 86_400_000
"""So long W&B drops an alert of the same title: one whose answer was lost is sent again, and two
workers may send the same."""
_WINDOW_S: Final = 1.05
"""A second, and the possible difference of two clocks."""
_LONGEST_PAUSE_S: Final = 5.0
"""Longer pauses are left to the host's queue."""
_MOST_KNOWN: Final = 2000


class Pacing:
    """How fast the requests of one run may follow each other; one per process.

    A run's first requests never wait. Source: https://docs.wandb.ai/guides/track/limits/ (checked
    2026-11-24): two file_stream requests per second and run; `RateLimit-Remaining` and
    `RateLimit-Reset` say when a project's share is used up.
    """

    def __init__(self, per_second: int = 2) -> None:
        self._per_second = per_second
        self._sent: dict[str, deque[float]] = {}
        self._free_at: dict[str, float] = {}

    async def turn(self, run: str, project: str) -> None:
        """Wait until a request to this run may be sent, and count it as sent."""
        while True:
            now = time.monotonic()
            sent = self._sent.setdefault(run, deque(maxlen=self._per_second))
            wait = self._free_at.get(project, 0.0) - now
            if len(sent) == self._per_second:
                wait = max(wait, sent[0] + _WINDOW_S - now)
            if wait <= 0:
                break
            await asyncio.sleep(wait)
        sent.append(now)
        if len(self._sent) > _MOST_KNOWN:
            known = self._sent.items()
            self._sent = {run: sent for run, sent in known if now - sent[-1] < _WINDOW_S}
            self._free_at = {name: at for name, at in self._free_at.items() if at > now}

    def heed(self, project: str, headers: Mapping[str, str]) -> None:
        """Record an answer's headers about the project's share. Names are in lower case."""
        if "ratelimit-remaining" not in headers:
            return
        remaining = parse_retry_after(headers.get("ratelimit-remaining", ""))
        reset = parse_retry_after(headers.get("ratelimit-reset", ""))
        if remaining is not None and remaining < 1 and reset is not None and math.isfinite(reset):
            self._free_at[project] = time.monotonic() + min(reset, _LONGEST_PAUSE_S)


class WandbSink:
    """SinkPort over HTTP."""

    def __init__(self, transport: Transport, base_url: str, pacing: Pacing | None = None) -> None:
        self._api = WandbApi(transport, base_url)
        self._once = WandbApi(transport, base_url, repeat=False)
        self._pacing = pacing or Pacing()

    async def ensure_run(
        self,
        run: RunPath,
        attributes: RunAttributes,
        *,
        is_new: bool,
        pending: bool,
        key: RunKey,
    ) -> EnsuredRun:
        config = {**attributes.config, "_wandb": {"t": _TELEMETRY, "m": _X_AXIS}}
        wrapped = {name: {"value": value} for name, value in config.items()}
        variables = {
            **_place(run),
            "groupName": attributes.group,
            "jobType": attributes.job_type,
            "config": orjson.dumps(wrapped).decode(),
        }
        if is_new:
            variables |= {"displayName": attributes.display_name, "notes": attributes.notes}
        if attributes.tags:
            variables["tags"] = list(attributes.tags)
        if pending:
            variables["state"] = "pending"
        api = self._once if is_new else self._api
        data = await api.ask(_UPSERT, variables, key=key.current, subject=str(run))
        return _ensured(data, run)

    async def read_run(self, run: RunPath, *, key: RunKey) -> RunSeen | None:
        data = await self._api.ask(_RUN, _place(run), key=key.current, subject=str(run))
        return _seen(data, str(run))

    async def post(self, run: RunPath, body: bytes, *, key: RunKey) -> bool:
        path = "/".join(quote(part, safe="") for part in (run.entity, run.project, run.run_id))
        project = f"{run.entity}/{run.project}"

        async def in_turn() -> Secret:
            # Called before each try, so that retries keep the pace as well.
            await self._pacing.turn(path, project)
            return await key.current()

        def read(answer: Answer) -> bool:
            self._pacing.heed(project, answer.headers)
            return _stopped(answer)

        return await self._api.stream(path, body, read, key=in_turn, subject=str(run))

    async def alert(self, run: RunPath, alert: RunAlert, *, key: RunKey) -> None:
        variables = {
            **_place(run),
            "title": alert.title,
            "text": alert.text,
            "severity": alert.level,
            "waitDuration": _ALERT_ONCE_MS,
        }
        await self._api.ask(_ALERT, variables, key=key.current, subject=str(run))


def _place(run: RunPath) -> dict[str, Any]:
    return {"name": run.run_id, "entity": run.entity, "project": run.project}


def _ensured(data: dict[str, Any], asked: RunPath) -> EnsuredRun:
    try:
        made = data["upsertBucket"]
        bucket = made["bucket"]
        project = bucket["project"]
        names = (project["entity"]["name"], project["name"], bucket["name"])
        return EnsuredRun(RunPath(*map(str, names)), made.get("inserted") is True)
    except (KeyError, TypeError):
        raise _no_run(str(asked)) from None


def _seen(data: dict[str, Any], subject: str) -> RunSeen | None:
    # W&B keeps bare infinities in summaries, which orjson does not read.
    try:
        bucket = (data["model"] or {}).get("bucket")
        if bucket is None:
            return None
        config = {
            name: item.get("value") if isinstance(item, dict) else item
            for name, item in json.loads(bucket["config"] or "{}").items()
        }
        telemetry = (config.get("_wandb") or {}).get("t") or {}
        return RunSeen(
            str(bucket["state"]),
            int(bucket["historyLineCount"] or 0),
            int(bucket["logLineCount"] or 0),
            json.loads(bucket["summaryMetrics"] or "{}"),
            config,
            tuple(map(str, bucket["tags"] or ())),
            telemetry.get("12") == USER_AGENT,
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _no_run(subject) from None


def _no_run(subject: str) -> UnavailableError:
    return UnavailableError("W&B's answer names no run", subject=subject, code="NotJson")


def _stopped(answer: Answer) -> bool:
    # W&B has accepted the rows with its 2xx; a body that cannot be read only hides a Stop.
    try:
        body = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(body, dict) and body.get("stopped") is True
