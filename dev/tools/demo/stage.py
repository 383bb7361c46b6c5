"""What the demo plays on: settings as the host will read them, and which W&B receives the runs."""

import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from dev.devhost import config
from dev.devhost.config import ConfigError
from dev.tools.demo.cloud import StoryError
from dev.tools.local_stack import Stack
from finetune_wandb.model.settings import Settings, SettingsProblems, read_settings

SCHEDULE: Final = "*/2 * * * * *"
"""Metrics are relayed every two seconds, so that people see them arrive; Azure has a minute."""
_LETTERS: Final = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class Keys:
    """The W&B key of the first half and the one it is rotated to. `real`: not made up here."""

    first: str
    second: str
    real: bool


def host_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what the stack's processes get on top of the environment."""
    return {} if environ.get("RELAY_SCHEDULE") else {"RELAY_SCHEDULE": SCHEDULE}


def check_sandbox(stack: Stack, environ: Mapping[str, str]) -> None:
    """Raise StoryError when the host would not talk to this stack's sandbox."""
    if environ.get("SANDBOX_URL", stack.sandbox_url).rstrip("/") != stack.sandbox_url:
        raise StoryError(
            f"SANDBOX_URL is {environ['SANDBOX_URL']!r}, but the demo plays Azure's part itself, "
            f"at {stack.sandbox_url}; unset SANDBOX_URL"
        )


def read(stack: Stack, app: Path, environ: Mapping[str, str]) -> Settings:
    """Return the app's settings as its host reads them. Raises StoryError for unusable ones."""
    values = dict(environ)
    try:
        config.apply_settings(config.read_settings(app), values)
        return read_settings(
            values | {"SANDBOX_URL": stack.sandbox_url, "WANDB_BASE_URL": stack.wandb_url}
        )
    except (ConfigError, SettingsProblems) as error:
        raise StoryError(f"the settings cannot be used: {error}") from error


def is_own_wandb(stack: Stack) -> bool:
    """Whether the runs go to this stack's sandbox rather than to a W&B set elsewhere."""
    return stack.wandb_url.rstrip("/") == f"http://127.0.0.1:{stack.ports.wandb}"


def keys(stack: Stack, environ: Mapping[str, str]) -> Keys:
    """Return the keys to play with. Raises StoryError when a W&B elsewhere needs a real one.

    A key of the environment is used with that W&B only, never shown to the sandbox's.
    """
    own = environ.get("WANDB_API_KEY", "")
    if is_own_wandb(stack):
        return Keys(_made_up(), _made_up(), real=False)
    if own:
        return Keys(own, environ.get("DEMO_SECOND_WANDB_API_KEY") or own, real=True)
    if urlsplit(stack.wandb_url).hostname in ("127.0.0.1", "localhost", "::1"):
        return Keys(_made_up(), _made_up(), real=False)
    raise StoryError(f"set WANDB_API_KEY to a key of the W&B at {stack.wandb_url}")


def _made_up() -> str:
    # The shape of a current key, see finetune_wandb/keys/proof.py.
    return "wandb_v1_" + "".join(secrets.choice(_LETTERS) for _ in range(77))


def samples_folder(app: Path) -> Path:
    """Return where recorded job objects are on machines that have them."""
    return app.parent / "shared" / "samples"
