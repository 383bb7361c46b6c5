"""How fast, and with which habits, simulated training jobs run; set by the control path."""

import math
from dataclasses import dataclass, fields, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """Times in seconds. Speeds act on jobs already running from their next step on."""

    seconds_per_step: float = 0.2
    """Time of one training step."""

    queue_seconds: float = 1.0
    """Time from creation to running: half of it validating, half queued."""

    finish_seconds: float = 0.3
    """Time from the last step to the end of postprocessing."""

    seed: int = 1
    """Same seed, same jobs in the same order: same metrics."""

    max_steps: int = 2000
    """A job never trains longer, whatever its file and epochs say."""

    result_encoding: str = "plain"
    """How result files are served: plain text, or base64 of it."""

    ties: str = "written"
    """In which order events of one second are listed: reversed as the others, or as written."""

    result_placeholder: str = "empty"
    """What a result file says where nothing was measured: empty, or -1 as some services do."""


_CHOICES = {
    "result_encoding": ("plain", "base64"),
    "ties": ("reversed", "written"),
    "result_placeholder": ("empty", "-1"),
}


def changed(settings: SimulatorSettings, body: Any) -> SimulatorSettings:
    """Return the settings with a control body applied. Raises ValueError naming the field."""
    if not isinstance(body, dict):
        raise ValueError("the body must be a JSON object")
    known = {item.name for item in fields(SimulatorSettings)}
    values: dict[str, Any] = {}
    for name, value in body.items():
        if name not in known:
            raise ValueError(f"{name}: unknown field")
        values[name] = _checked(name, value)
    return replace(settings, **values)


def _checked(name: str, value: Any) -> Any:
    if name in _CHOICES:
        text = str(value)
        if text not in _CHOICES[name]:
            raise ValueError(f"{name}: one of {', '.join(_CHOICES[name])}")
        return text
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name}: must be a number")
    if name in ("seed", "max_steps"):
        if not isinstance(value, int) or (name == "max_steps" and value < 1):
            raise ValueError(f"{name}: must be a whole number" + " from 1 up" * (name != "seed"))
        return value
    if value < 0:
        raise ValueError(f"{name}: must not be negative")
    return float(value)
