"""What a function binds to, read from the bindings that the worker library indexed.

Decides which triggers and outputs the host can serve: anything else stops the start, because
a binding that is silently left out looks like a bug in the app.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dev.devhost.config import ConfigError

HTTP, EVENT_GRID, TIMER, QUEUE = "httpTrigger", "eventGridTrigger", "timerTrigger", "queueTrigger"
TRIGGERS = (HTTP, EVENT_GRID, TIMER, QUEUE)
_SETTING = re.compile(r"%([^%]+)%")
_TRUE = {"1", "true"}


@dataclass(frozen=True, slots=True)
class Retry:
    """A function's own retry policy; delays in seconds, `limit` -1 means for ever."""

    limit: int
    first_delay: float
    longest_delay: float

    def delay(self, attempt: int) -> float:
        """Return the seconds to wait before retry number `attempt` (from 1)."""
        # The exponent is bounded: a policy without end would overflow a float.
        return min(self.first_delay * 2.0 ** min(attempt - 1, 32), self.longest_delay)


@dataclass(frozen=True, slots=True)
class Function:
    """One indexed function: its trigger, its outputs, and whether its trigger is switched off."""

    name: str
    id: str
    trigger: Mapping[str, Any]
    outputs: tuple[Mapping[str, Any], ...]
    retry: Retry | None
    disabled: bool

    @property
    def kind(self) -> str:
        """Return the trigger's type, one of TRIGGERS."""
        return str(self.trigger["type"])

    @property
    def parameter(self) -> str:
        """Return the name of the Python parameter that receives the trigger."""
        return str(self.trigger["name"])


def parse(
    name: str,
    function_id: str,
    raw_bindings: list[str],
    retry: Retry | None,
    environ: Mapping[str, str],
) -> Function:
    """Build a Function from its bindings, with each %SETTING% replaced.

    Raises ConfigError for a trigger or output the local host lacks, or a missing setting.
    """
    triggers, outputs = [], []
    for raw in raw_bindings:
        binding = {
            key: _resolve(value, environ, name) if isinstance(value, str) else value
            for key, value in json.loads(raw).items()
        }
        kind = binding["type"]
        if kind in TRIGGERS:
            triggers.append(binding)
        elif kind == "queue" and binding.get("direction") == "OUT":
            outputs.append(binding)
        elif kind != "http":
            raise ConfigError(f"{name}: the local host has no binding of type {kind}")
    if len(triggers) != 1:
        raise ConfigError(f"{name} must have exactly one trigger, it has {len(triggers)}")
    return Function(
        name=name,
        id=function_id,
        trigger=triggers[0],
        outputs=tuple(outputs),
        retry=retry,
        disabled=_disabled(name, environ),
    )


def storage_connection(binding: Mapping[str, Any], environ: Mapping[str, str]) -> str:
    """Return the connection string a storage binding names. Raises ConfigError without one."""
    setting = str(binding.get("connection") or "AzureWebJobsStorage")
    # The cloud also looks under this prefix, so a binding may name a connection without it.
    value = environ.get(setting) or environ.get(f"AzureWebJobs{setting}")
    if not value:
        raise ConfigError(
            f"{setting} is not set: a queue binding needs it "
            "(UseDevelopmentStorage=true stands for the local Azurite)"
        )
    return value


def _resolve(text: str, environ: Mapping[str, str], function: str) -> str:
    def setting(match: re.Match[str]) -> str:
        value = environ.get(match[1])
        if value is None:
            raise ConfigError(f"{function}: its binding names %{match[1]}%, which is not set")
        return value

    return _SETTING.sub(setting, text)


def _disabled(name: str, environ: Mapping[str, str]) -> bool:
    spellings = (f"AzureWebJobs.{name}.Disabled", f"AzureWebJobs_{name}_Disabled")
    return any(environ.get(key, "").strip().lower() in _TRUE for key in spellings)
