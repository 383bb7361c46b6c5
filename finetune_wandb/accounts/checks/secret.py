"""Rule: the secret may be read, exists, is enabled, in date, and has an end.

What is so was found while proving the key (`finetune_wandb/keys/in_use.py`), once for all accounts.
"""

from finetune_wandb.accounts.state import State
from finetune_wandb.model.causes import finding
from finetune_wandb.model.finding import Finding


def check_secret(state: State) -> list[Finding]:
    """Return what speaks for and against the secret as the vault holds it."""
    wish = state.desired
    if wish.secret_cause:
        return [finding(wish.secret_cause, secret=wish.secret_asked)]
    return list(state.key.secret_findings) if state.key else []
