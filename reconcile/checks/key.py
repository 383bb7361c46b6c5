"""Rule: W&B accepts the secret's value. Found while proving the key, once for all accounts."""

from model.finding import Finding
from reconcile.state import State


def check_key(state: State) -> list[Finding]:
    """Return what W&B says about the key, or that it could not be asked."""
    return list(state.key.key_findings) if state.key else []
