"""How a simulated job reads in each dialect of the API.

Both say `pending` until a job runs and -1 for what is not settled; the dated API writes nulls out.
Jobs set by the control path never pass here.
Source: samples of both generations, published in Microsoft's tutorials and notebooks.
"""

from typing import Any

from dev.sandbox.openai.job_request import JobRequest

_WAITING = {"validating_files": "pending", "queued": "pending"}
_UNSETTLED = ("n_epochs", "batch_size", "learning_rate_multiplier")


def v1(request: JobRequest, state: dict[str, Any]) -> dict[str, Any]:
    """Return the job as the v1 API words it: what there is nothing to say of is left out."""
    settled = _hyperparameters(request, state, -1)
    method: dict[str, Any] = {"hyperparameters": settled}
    if request.grader is not None:
        method["grader"] = request.grader
    body = _common(request, state)
    body |= {
        "result_files": state["result_files"],
        "status": _WAITING.get(state["status"], state["status"]),
        "hyperparameters": (
            {name: settled[name] for name in _UNSETTLED} if request.method == "supervised" else None
        ),
        "method": {"type": request.method, request.method: method},
        "integrations": request.integrations or None,
        "metadata": request.metadata or None,
        "suffix": request.suffix,
        "trainingType": request.training_type,
    }
    return {name: value for name, value in body.items() if value is not None}


def dated(request: JobRequest, state: dict[str, Any]) -> dict[str, Any]:
    """Return the job as the dated API words it."""
    settled = _hyperparameters(request, state, -1)
    body = _common(request, state)
    body |= {
        "organization_id": None,
        "result_files": state["result_files"],
        "status": _WAITING.get(state["status"], state["status"]),
        "hyperparameters": {name: settled[name] for name in _UNSETTLED},
        "integrations": request.integrations,
        "metadata": None,
        "method": {"type": request.method, request.method: {"hyperparameters": settled}},
    }
    if request.suffix is not None:
        body["suffix"] = request.suffix
    if request.training_type is not None:
        body["trainingType"] = request.training_type
    return body


def _common(request: JobRequest, state: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": state["id"],
        "created_at": state["created_at"],
        "error": state["error"],
        "fine_tuned_model": state["fine_tuned_model"],
        "finished_at": state["finished_at"],
        "model": request.model,
        "object": "fine_tuning.job",
        "seed": state["seed"],
        "trained_tokens": state["trained_tokens"],
        "training_file": request.training_file,
        "validation_file": request.validation_file,
        "estimated_finish": state["estimated_finish"],
    }


def _hyperparameters(request: JobRequest, state: dict[str, Any], auto: Any) -> dict[str, Any]:
    """Return what was settled or, before the job runs, what was asked."""
    settled: dict[str, Any] | None = state["hyperparameters"]
    if settled is not None:
        return settled
    return dict.fromkeys(_UNSETTLED, auto) | request.hyperparameters
