"""Rotation with keys that the app makes itself, as far as the settings ask for it.

Runs behind every look at a key: a rotation that is due begins, one that was interrupted goes on.
"""

import logging

from finetune_wandb.accounts.desired import choice_cause
from finetune_wandb.flows.app import App
from finetune_wandb.keys.rotation import rotate
from finetune_wandb.keys.rotation_rules import rotation_findings
from finetune_wandb.model.errors import AppError
from finetune_wandb.model.mint import KeyMint
from finetune_wandb.model.problem import Problem
from finetune_wandb.model.secret import SecretRef

log = logging.getLogger(__name__)

NAME = "rotation"


async def advance(secret: SecretRef, app: App) -> KeyMint | None:
    """Take a secret's rotation as far as it gets now; None where there was nothing to do.

    What went wrong is in the status; a look at the key never fails for it.
    """
    if app.settings.rotation != "mint" or choice_cause(secret, app.settings):
        return None
    problem = Problem(
        source=NAME,
        subject=str(secret),
        cause="the rotation's own table cannot be used",
        remedy="tried again with the next look; check the app's right to its storage",
    )
    try:
        mint = await rotate(secret, ports=app.rotation, settings=app.settings)
    except AppError as error:
        log.warning("rotation of %s: %s", secret, error.message)
        await app.problems.note(problem)
        return None
    if mint is not None:
        log.info(
            "rotation of %s: %s (%s)",
            secret,
            mint.state,
            ", ".join(item.cause for item in rotation_findings(mint)),
        )
    return mint
