"""What a request to create a fine-tuning job asks for, checked, and how "auto" is settled.

Decides which requests the service turns down at once. Whether the training file is any good is
found out later, while the job validates.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, cast

from dev.sandbox.openai.job_store import AccountJobs, Dialect
from dev.sandbox.openai.wire import invalid

Method = Literal["supervised", "dpo", "reinforcement"]

_COMMON = ("n_epochs", "batch_size", "learning_rate_multiplier")
_HYPERPARAMETERS: dict[Method, tuple[str, ...]] = {
    "supervised": _COMMON,
    "dpo": (*_COMMON, "beta"),
    "reinforcement": (
        *_COMMON,
        "compute_multiplier",
        "eval_interval",
        "eval_samples",
        "reasoning_effort",
    ),
}
_WHOLE = {"n_epochs": 50, "batch_size": 256, "eval_interval": 1000, "eval_samples": 10_000}
"""Hyperparameters that count something, with the most that is accepted."""

_EXAMPLES_WANTED = 100
"""With "auto", a small file is repeated until the model has seen about this many rows."""


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A request that passed. Hyperparameters left to the service are absent."""

    model: str
    training_file: str
    validation_file: str | None
    method: Method
    hyperparameters: dict[str, Any]
    grader: dict[str, Any] | None
    suffix: str | None
    seed: int | None
    integrations: list[Any] | None
    metadata: dict[str, str] | None
    training_type: str | None


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long a job trains. Steps count from 1; an epoch ends at each multiple given."""

    total_steps: int
    steps_per_epoch: int
    hyperparameters: dict[str, Any]


def parse(body: Any, account: AccountJobs, dialect: Dialect) -> JobRequest:
    """Read the body of a create call. Raises Refused naming the parameter that is wrong."""
    if not isinstance(body, dict):
        raise invalid("The request body must be a JSON object.")
    method, settings = _method(body, dialect)
    training_file = _file_id(body, "training_file", account)
    if training_file is None:
        raise invalid("training_file: this parameter is required.", "training_file")
    validation_file = _file_id(body, "validation_file", account)
    grader = settings.get("grader")
    if method == "reinforcement":
        if not isinstance(grader, dict):
            raise invalid("method.reinforcement.grader: this parameter is required.", "grader")
        if validation_file is None:
            raise invalid(
                "validation_file: reinforcement fine-tuning requires one.", "validation_file"
            )
    seed = body.get("seed")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise invalid("seed: must be an integer.", "seed")
    model = _text(body, "model", 256)
    if not model:
        raise invalid("model: this parameter is required.", "model")
    return JobRequest(
        model=model,
        training_file=training_file,
        validation_file=validation_file,
        method=method,
        hyperparameters=_hyperparameters(
            method, body.get("hyperparameters"), settings.get("hyperparameters")
        ),
        grader=grader if method == "reinforcement" else None,
        suffix=_text(body, "suffix", 64),
        seed=seed,
        integrations=_integrations(body.get("integrations")),
        metadata=_metadata(body.get("metadata")),
        training_type=_text(body, "trainingType", 64),
    )


def schedule(request: JobRequest, rows: int, max_steps: int) -> Schedule:
    """Settle every hyperparameter and derive the steps from the rows of the training file."""
    asked = request.hyperparameters
    fewest = 3 if rows * 3 >= _EXAMPLES_WANTED else math.ceil(_EXAMPLES_WANTED / rows)
    epochs = int(asked.get("n_epochs", min(fewest, 25)))
    batch = int(asked.get("batch_size", max(1, min(64, rows // 500))))
    per_epoch = min(math.ceil(rows / batch), max(1, max_steps // epochs))
    settled: dict[str, Any] = {
        "n_epochs": epochs,
        "batch_size": batch,
        "learning_rate_multiplier": 1.0,
    }
    if request.method == "dpo":
        settled["beta"] = 0.1
    if request.method == "reinforcement":
        settled |= {
            "compute_multiplier": 1.0,
            "eval_interval": 5,
            "eval_samples": 1,
            "reasoning_effort": "medium",
        }
    return Schedule(per_epoch * epochs, per_epoch, settled | asked)


def _method(body: dict[str, Any], dialect: Dialect) -> tuple[Method, dict[str, Any]]:
    method = body.get("method")
    if method is None:
        return "supervised", {}
    kind = method.get("type") if isinstance(method, dict) else None
    if kind not in _HYPERPARAMETERS or (kind == "reinforcement" and dialect == "dated"):
        raise invalid(f"method.type: '{kind}' is not supported.", "method")
    settings = method.get(kind)
    if settings is not None and not isinstance(settings, dict):
        raise invalid(f"method.{kind}: must be an object.", "method")
    return cast(Method, kind), settings or {}


def _hyperparameters(method: Method, *sources: Any) -> dict[str, Any]:
    asked: dict[str, Any] = {}
    for source in sources:
        if source is None:
            continue
        if not isinstance(source, dict):
            raise invalid("hyperparameters: must be an object.", "hyperparameters")
        for name, value in source.items():
            if name not in _HYPERPARAMETERS[method]:
                raise invalid(f"hyperparameters.{name}: unknown for {method}.", name)
            # The dated API writes "auto" as -1.
            if value not in (None, "auto", "default", -1):
                asked[name] = _checked(name, value)
    return asked


def _checked(name: str, value: Any) -> Any:
    if name == "reasoning_effort":
        if value not in ("low", "medium", "high"):
            raise invalid(f"hyperparameters.{name}: low, medium or high.", name)
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise invalid(f"hyperparameters.{name}: must be a positive number.", name)
    most = _WHOLE.get(name)
    if most is None:
        return value
    if value > most or value != int(value):
        raise invalid(f"hyperparameters.{name}: must be a whole number up to {most}.", name)
    return int(value)


def _file_id(body: dict[str, Any], name: str, account: AccountJobs) -> str | None:
    found = body.get(name)
    if found is None:
        return None
    if not isinstance(found, str) or found not in account.files:
        raise invalid(f"{name}: the specified file does not exist.", name)
    return found


def _text(body: dict[str, Any], name: str, longest: int) -> str | None:
    found = body.get(name)
    # The preview API also took the number 1 for trainingType.
    if name == "trainingType" and isinstance(found, int):
        return "Standard" if found == 0 else "GlobalStandard"
    if found is not None and (not isinstance(found, str) or len(found) > longest):
        raise invalid(f"{name}: must be a text of at most {longest} characters.", name)
    return found


def _integrations(found: Any) -> list[Any] | None:
    if found is None:
        return None
    if not isinstance(found, list):
        raise invalid("integrations: must be a list.", "integrations")
    for item in found:
        wandb = item.get("wandb") if isinstance(item, dict) else None
        if not isinstance(wandb, dict) or item.get("type") != "wandb" or not wandb.get("project"):
            raise invalid("integrations: only wandb, with a project.", "integrations")
    return found


def _metadata(found: Any) -> dict[str, str] | None:
    if found is None:
        return None
    if not isinstance(found, dict) or len(found) > 16:
        raise invalid("metadata: must be an object of at most 16 pairs.", "metadata")
    for key, value in found.items():
        if len(key) > 64 or not isinstance(value, str) or len(value) > 512:
            raise invalid("metadata: keys up to 64 and texts up to 512 characters.", "metadata")
    return found
