"""What the live tests may touch, from the environment; each missing name skips what needs it."""

import os
from dataclasses import dataclass

import pytest

BASIC = (
    "LIVE_ACCOUNT_ID",
    "LIVE_VAULT_URL",
    "LIVE_SECRET_NAME",
    "LIVE_WANDB_ENTITY",
    "LIVE_WANDB_PROJECT",
)
OPTIONAL = (
    "LIVE_WRITE",
    "LIVE_SLOW",
    "LIVE_APP_URL",
    "LIVE_APP_KEY",
    "LIVE_AZD",
    "LIVE_APP_SIGNED_IN",
    "LIVE_GROUP_ID",
    "LIVE_LOG_WORKSPACE_ID",
    "LIVE_QUEUE_URL",
)


def need(*names: str) -> None:
    """Skip the test unless all of these are set, naming those that are not."""
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        pytest.skip(f"open: set {', '.join(missing)} (docs/live-test.md)")


def text(name: str) -> str:
    return os.environ.get(name, "").strip()


@dataclass(frozen=True)
class Places:
    """The test account, vault and project: nothing else is written to."""

    account: str
    vault_url: str
    secret: str
    entity: str
    project: str
    wandb_url: str
    sandbox_url: str
    """Set when the suite proves itself against the sandbox; empty for the real services."""


def places() -> Places:
    need(*BASIC)
    account, vault, secret, entity, project = (text(name) for name in BASIC)
    wandb = text("WANDB_BASE_URL") or "https://api.forge.coreweave.com"
    return Places(account, vault, secret, entity, project, wandb, text("SANDBOX_URL"))


def may_write() -> None:
    """Skip the test unless LIVE_WRITE=1."""
    if text("LIVE_WRITE") != "1":
        pytest.skip("open: it writes into the test account, vault or project; set LIVE_WRITE=1")
