"""The settings that join the Functions host to the stack's sandbox and storage.

What people set themselves wins: a W&B of their own, real Azure (an empty SANDBOX_URL), other
storage. An isolated stack, for tests, looks at nothing outside itself.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dev.devhost import config
from dev.devhost.config import ConfigError
from dev.tools.ports import Ports
from dev.tools.processes import StackError

QUEUES: Final = tuple(
    f"{name}{suffix}"
    for name in ("backfill-jobs", "job-artifacts", "reconcile-accounts", "relay-jobs")
    for suffix in ("", "-poison")
)
"""Made by the templates in Azure and by the stack here; the host makes none."""
_LEASE_S: Final = "20"
"""Azure's 600 s would have a killed host's messages rest for ten minutes."""


def isolated(ports: Ports) -> dict[str, str]:
    """Return settings under which the host talks to this stack and nothing else."""
    wandb = f"http://127.0.0.1:{ports.wandb}"
    return {
        "SANDBOX_URL": f"http://127.0.0.1:{ports.sandbox}",
        "AzureWebJobsStorage": "UseDevelopmentStorage=true",
        "WANDB_BASE_URL": wandb,
        "WANDB_APP_URL": wandb,
        "HOST_LEASE_S": _LEASE_S,
    }


def joined(ports: Ports, environ: Mapping[str, str], app: Path) -> dict[str, str]:
    """Return the isolated settings without those that environment or settings file decide.

    Raises StackError when a settings file is malformed.
    """
    wiring = isolated(ports)
    for name in ("SANDBOX_URL", "AzureWebJobsStorage", "HOST_LEASE_S"):
        wiring[name] = environ.get(name, wiring[name])
    own = environ.get("WANDB_BASE_URL") or _from_settings_file(app, "WANDB_BASE_URL")
    if own:
        wiring["WANDB_BASE_URL"] = own
        # The sandbox's pages would not know the runs; empty follows the base URL.
        wiring["WANDB_APP_URL"] = (
            environ.get("WANDB_APP_URL") or _from_settings_file(app, "WANDB_APP_URL") or ""
        )
    return wiring


def _from_settings_file(app: Path, name: str) -> str | None:
    """Return what local.settings.json says, unless it merely repeats the sample."""
    own, sample = (app / file for file in config.FILES)
    try:
        value = config.read_settings_file(own).values.get(name) if own.is_file() else None
        usual = config.read_settings_file(sample).values.get(name) if sample.is_file() else None
    except ConfigError as error:
        raise StackError(str(error)) from error
    return value if value != usual else None
