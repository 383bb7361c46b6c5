"""A fine-tuning job, what its status means, and how it is read from what the API answers.

Only named fields are taken over. Azure's job objects can carry grader source code, endpoint
headers and keys; those must not reach a message, a table or W&B, so nothing unnamed passes.
Fields that cannot be used are left out and named in `oddities`; a job is never refused for them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeGuard

from finetune_wandb.model.relay.redact import redacted, redacted_value

TERMINAL: Final = frozenset({"succeeded", "failed", "cancelled"})
"""Statuses after which Azure publishes nothing new. Every other status, known or not, is alive.

Source: facts on the v1 and dated fine-tuning APIs; paused is stable but resumable.
"""
WAITING: Final = frozenset({"created", "pending", "queued", "validating_files", "notRunning"})
"""Statuses before training. A run in one of them is shown as pending in W&B."""
_MAX_ID: Final = 256
_SCALARS = (
    "id",
    "status",
    "model",
    "created_at",
    "finished_at",
    "estimated_finish",
    "fine_tuned_model",
    "trained_tokens",
    "training_file",
    "validation_file",
    "seed",
    "suffix",
    "user_provided_suffix",
    "trainingType",
)
_SHAPES: Final = {
    "result_files": list,
    "hyperparameters": dict,
    "method": dict,
    "error": dict,
    "integrations": list,
    "metadata": dict,
}
_ODD: Final = "odd_fields"
"""Name under which a reduced job says what was left out of it."""
_WANDB_FIELDS = ("project", "entity", "name", "tags", "run_id")
_METHOD_FIELDS = ("hyperparameters",)
_MAX_TEXT: Final = 4000
MAX_TIME: Final = 1e11
"""Unix seconds; nothing can print a later date."""
_INT64: Final = 2.0**63


@dataclass(frozen=True, slots=True)
class WandbIntegration:
    """What a job says about its own W&B integration; empty text where it says nothing."""

    project: str = ""
    entity: str = ""
    name: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """One job. Times are unix seconds, None where Azure gave none."""

    id: str
    status: str
    model: str = ""
    created_at: float | None = None
    finished_at: float | None = None
    fine_tuned_model: str = ""
    trained_tokens: int | None = None
    training_file: str = ""
    validation_file: str = ""
    result_files: tuple[str, ...] = ()
    seed: int | None = None
    suffix: str = ""
    training_type: str = ""
    method: str = ""
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    error_code: str = ""
    error_message: str = ""
    wandb: WandbIntegration | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    oddities: tuple[str, ...] = ()
    """Names of fields that were there and could not be used."""

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL

    @property
    def is_paused(self) -> bool:
        return self.status == "paused"

    @property
    def is_reinforcement(self) -> bool:
        return self.method in ("reinforcement", "rl_environment")

    @property
    def is_waiting(self) -> bool:
        return self.status in WAITING


def is_job_id(value: object) -> TypeGuard[str]:
    """Return whether this can be a job's id; an object without one is not a job."""
    return isinstance(value, str) and bool(value.strip()) and len(value) <= _MAX_ID


def reduce_job(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of an API job object that may travel in a queue message, in its own shape."""
    kept: dict[str, Any] = {
        name: raw[name] for name in _SCALARS if isinstance(raw.get(name), (str, int, float))
    }
    files = raw.get("result_files")
    if isinstance(files, list):
        kept["result_files"] = [item for item in files if isinstance(item, str)]
    if isinstance(raw.get("hyperparameters"), dict):
        kept["hyperparameters"] = flat_scalars(raw["hyperparameters"])
    method = raw.get("method")
    if isinstance(method, dict):
        kind = method.get("type")
        kept["method"] = {"type": kind}
        inner = method.get(kind) if isinstance(kind, str) else None
        if isinstance(inner, dict):
            kept["method"][kind] = {
                name: flat_scalars(inner[name])
                for name in _METHOD_FIELDS
                if isinstance(inner.get(name), dict)
            }
    error = raw.get("error")
    if isinstance(error, dict):
        kept["error"] = {
            name: redacted(str(error[name])[:_MAX_TEXT])
            for name in ("code", "message")
            if error.get(name)
        }
    integrations = raw.get("integrations")
    if isinstance(integrations, list):
        kept["integrations"] = [
            {
                "type": "wandb",
                "wandb": {
                    name: inner[name]
                    for name in _WANDB_FIELDS
                    if isinstance(inner.get(name), (str, list))
                },
            }
            for inner in _wandb_parts(integrations)
        ]
    if isinstance(raw.get("metadata"), dict):
        kept["metadata"] = _metadata(raw["metadata"])
    if odd := _odd_fields(raw):
        kept[_ODD] = odd
    return kept


def _odd_fields(raw: Mapping[str, Any]) -> list[str]:
    """Return the names of fields that are left out of the reduced form for what they hold."""
    odd = [
        name
        for name in _SCALARS
        if raw.get(name) is not None and not isinstance(raw[name], (str, int, float))
    ]
    odd += [
        name
        for name, kind in _SHAPES.items()
        if raw.get(name) is not None and not isinstance(raw[name], kind)
    ]
    known = raw.get(_ODD)
    return odd + [name for name in (known if isinstance(known, list) else ()) if name not in odd]


def _metadata(raw: Mapping[str, Any]) -> dict[str, str]:
    return {
        str(name): redacted_value(str(name), value[:_MAX_TEXT])
        for name, value in raw.items()
        if isinstance(value, str)
    }


def flat_scalars(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers, text and truth values of a mapping; nested ones joined by `/`."""
    flat: dict[str, Any] = {}
    stack: list[tuple[str, Any, int]] = [("", values, 0)]
    while stack:
        prefix, value, depth = stack.pop()
        if isinstance(value, dict) and depth < 8:
            stack.extend(
                (f"{prefix}/{name}" if prefix else str(name), inner, depth + 1)
                for name, inner in value.items()
            )
        elif isinstance(value, str) and prefix:
            flat[prefix] = redacted_value(prefix, value[:_MAX_TEXT])
        elif isinstance(value, (int, float, bool)) and prefix:
            flat[prefix] = value
    return dict(sorted(flat.items()))


def parse_job(answered: Mapping[str, Any]) -> Job | None:
    """Return the job in an API object, or None for an object without a usable id."""
    job_id = answered.get("id")
    if not is_job_id(job_id):
        return None
    raw = reduce_job(answered)
    odd = [str(name) for name in raw.get(_ODD, ())]

    def text(name: str) -> str:
        value = raw.get(name)
        if value is None or isinstance(value, str):
            return value or ""
        odd.append(name)
        return ""

    def moment(name: str) -> float | None:
        value = raw.get(name)
        found = as_number(value)
        if found is not None and 0 <= found < MAX_TIME:
            return found
        if value is not None:
            odd.append(name)
        return None

    def whole(name: str) -> int | None:
        value = raw.get(name)
        found = as_number(value)
        if found is not None and abs(found) < _INT64:  # false for NaN too
            return value if type(value) is int else int(found)
        if value is not None:
            odd.append(name)
        return None

    method, hyperparameters = _method(raw)
    error = raw.get("error", {})
    return Job(
        id=job_id.strip(),
        status=text("status") or "unknown",
        model=text("model"),
        created_at=moment("created_at"),
        finished_at=moment("finished_at"),
        fine_tuned_model=text("fine_tuned_model"),
        trained_tokens=whole("trained_tokens"),
        training_file=text("training_file"),
        validation_file=text("validation_file"),
        result_files=tuple(filter(None, raw.get("result_files", ()))),
        seed=whole("seed"),
        suffix=text("suffix") or text("user_provided_suffix"),
        training_type=text("trainingType"),
        method=method,
        hyperparameters=hyperparameters,
        error_code=error.get("code", ""),
        error_message=error.get("message", ""),
        wandb=_wandb(raw.get("integrations", ())),
        metadata=raw.get("metadata", {}),
        oddities=tuple(dict.fromkeys(odd)),
    )


def as_number(value: object) -> float | None:
    """Return a number given as a number or as text, None for anything else (booleans too)."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        try:
            return float(value)
        except OverflowError:
            return None
    if isinstance(value, str) and "_" not in value:  # Python would read 1_000
        try:
            return float(value)
        except ValueError:
            return None
    return None


def _method(raw: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the method's name and all hyperparameters; those of the method itself win."""
    method = raw.get("method", {})
    kind = method.get("type")
    if not isinstance(kind, str):
        return "", raw.get("hyperparameters", {})
    own = method.get(kind, {}).get("hyperparameters", {})
    return kind, {**raw.get("hyperparameters", {}), **own}


def _wandb(integrations: Sequence[Mapping[str, Any]]) -> WandbIntegration | None:
    if not integrations:
        return None
    said = integrations[0]["wandb"]
    tags = said.get("tags")
    return WandbIntegration(
        project=_str(said.get("project")),
        entity=_str(said.get("entity")),
        name=_str(said.get("name")),
        tags=tuple(filter(_str, tags)) if isinstance(tags, list) else (),
    )


def _wandb_parts(integrations: list[Any]) -> Iterator[Mapping[str, Any]]:
    """Yield what a job's W&B integrations say; one that says nothing is there all the same."""
    for item in integrations:
        if not isinstance(item, dict):
            continue
        inner = item.get("wandb")
        if isinstance(inner, dict):
            yield inner
        elif item.get("type") == "wandb":
            yield {}


def _str(value: object) -> str:
    return value if isinstance(value, str) else ""
