"""Rule: W&B accepts the secret's value. Found while proving the key, once for all accounts."""

from finetune_wandb.accounts.state import State
from finetune_wandb.model.finding import Finding


def check_key(state: State) -> list[Finding]:
    """Return what W&B says about the key, or that it could not be asked."""
    return list(state.key.key_findings) if state.key else []
