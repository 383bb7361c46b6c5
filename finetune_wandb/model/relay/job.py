"""A fine-tuning job, the meaning of its status, and how it is read from the API's answer.

Only named fields are taken over. Azure's job objects can carry grader source code, endpoint
headers and keys; those must not reach a message, a table or W&B, so nothing unnamed passes.
Fields that cannot be used are left out and named in `oddities`; a job is never refused for them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeGuard

from finetune_wandb.model.relay.redact import redacted, redacted_value

TERMINAL: Final = frozenset({"succeeded", "failed", "cancelled"})
"""Statuses after which Azure publishes nothing new. Every other status, known or not, is alive.

Source: the OpenAI.v1 specification (docs/fidelity.md); a paused job can be resumed.
"""
WAITING: Final = frozenset({"created", "pending", "queued", "validating_files", "notRunning"})
"""Statuses before training. A run in one of them is shown as pending in W&B."""
_MAX_ID: Final = 256
_SCALARS: Final = (
    *("id", "status", "model", "created_at", "finished_at", "estimated_finish"),
    *("fine_tuned_model", "trained_tokens", "training_file", "validation_file"),
    *("seed", "suffix", "user_provided_suffix", "trainingType"),
)
_ODD: Final = "odd_fields"
"""Field of a reduced job that names what was left out."""
_WANDB_FIELDS = ("project", "entity", "name", "tags", "run_id")
_MAX_TEXT: Final = 4000
_MAX_TIME: Final = 1e11
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
    def reason(self) -> str:
        """Azure's code and message for a failure; empty where it gives none."""
        return ": ".join(part for part in (self.error_code, self.error_message) if part)

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
    kept: dict[str, Any] = {}
    odd: list[str] = []
    for name, (shape, reduced) in _FIELDS.items():
        value = raw.get(name)
        if isinstance(value, shape):
            kept[name] = reduced(value)
        elif value is not None:
            odd.append(name)
    known = raw.get(_ODD)
    odd += [name for name in (known if isinstance(known, list) else ()) if name not in odd]
    if odd:
        kept[_ODD] = odd
    return kept


def _result_files(listed: list[Any]) -> list[str]:
    return [item for item in listed if isinstance(item, str)]


def _method(raw: dict[str, Any]) -> dict[str, Any]:
    kind = raw.get("type")
    if not isinstance(kind, str) or not isinstance(inner := raw.get(kind), dict):
        return {"type": kind}
    own = inner.get("hyperparameters")
    kept = {"hyperparameters": flat_scalars(own)} if isinstance(own, dict) else {}
    return {"type": kind, kind: kept}


def _error(raw: dict[str, Any]) -> dict[str, str]:
    return {
        name: redacted(str(raw[name])[:_MAX_TEXT]) for name in ("code", "message") if raw.get(name)
    }


def _integrations(listed: list[Any]) -> list[dict[str, Any]]:
    """Return those of W&B, also those without content."""
    found: list[dict[str, Any]] = []
    for item in listed:
        inner = item.get("wandb") if isinstance(item, dict) else None
        if not isinstance(inner, dict):
            if not isinstance(item, dict) or item.get("type") != "wandb":
                continue
            inner = {}
        said = {name: inner.get(name) for name in _WANDB_FIELDS}
        kept = {name: value for name, value in said.items() if isinstance(value, (str, list))}
        found.append({"type": "wandb", "wandb": kept})
    return found


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


_FIELDS: Final[Mapping[str, tuple[Any, Callable[[Any], Any]]]] = {
    **dict.fromkeys(_SCALARS, ((str, int, float), lambda value: value)),
    "result_files": (list, _result_files),
    "hyperparameters": (dict, flat_scalars),
    "method": (dict, _method),
    "error": (dict, _error),
    "integrations": (list, _integrations),
    "metadata": (dict, _metadata),
}
"""What is taken over of a job object, the type it must have, and how it is reduced."""


def parse_job(answered: Mapping[str, Any]) -> Job | None:
    """Return the job in an API object, or None for an object without a usable id."""
    job_id = answered.get("id")
    if not is_job_id(job_id):
        return None
    raw = reduce_job(answered)
    odd = [str(name) for name in raw.get(_ODD, ())]

    def read[T](name: str, as_type: Callable[[object], T | None]) -> T | None:
        value = raw.get(name)
        found = as_type(value)
        if found is None and value is not None:
            odd.append(name)
        return found

    def text(name: str) -> str:
        return read(name, as_text) or ""

    shared = raw.get("hyperparameters", {})
    method = raw.get("method", {})
    kind = as_text(method.get("type")) or ""
    # Those of the method itself win.
    own = method.get(kind, {}).get("hyperparameters", {}) if kind else {}
    error = raw.get("error", {})
    return Job(
        id=job_id.strip(),
        status=text("status") or "unknown",
        model=text("model"),
        created_at=read("created_at", as_moment),
        finished_at=read("finished_at", as_moment),
        fine_tuned_model=text("fine_tuned_model"),
        trained_tokens=read("trained_tokens", as_whole),
        training_file=text("training_file"),
        validation_file=text("validation_file"),
        result_files=tuple(filter(None, raw.get("result_files", ()))),
        seed=read("seed", as_whole),
        suffix=text("suffix") or text("user_provided_suffix"),
        training_type=text("trainingType"),
        method=kind,
        hyperparameters={**shared, **own},
        error_code=error.get("code", ""),
        error_message=error.get("message", ""),
        wandb=_wandb(raw.get("integrations", ())),
        metadata=raw.get("metadata", {}),
        oddities=tuple(dict.fromkeys(odd)),
    )


def as_number(value: object) -> float | None:
    """Return a number given as a number or as text, None for anything else (booleans too)."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, str) and "_" in value:  # Python would read 1_000
        return None
    try:
        return float(value)
    except (OverflowError, ValueError):
        return None


def as_moment(value: object) -> float | None:
    """Return a time in unix seconds, None if it is not a printable time."""
    at = value if type(value) is int else as_number(value)
    return float(at) if at is not None and 0 <= at < _MAX_TIME else None


def as_whole(value: object) -> int | None:
    found = as_number(value)
    if found is None or not abs(found) < _INT64:  # NaN is neither
        return None
    return value if type(value) is int else int(found)


def as_text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _wandb(integrations: Sequence[Mapping[str, Any]]) -> WandbIntegration | None:
    if not integrations:
        return None
    said = integrations[0]["wandb"]
    project, entity, name = (as_text(said.get(one)) or "" for one in ("project", "entity", "name"))
    tags = said.get("tags")
    return WandbIntegration(
        project, entity, name, tuple(filter(as_text, tags)) if isinstance(tags, list) else ()
    )
