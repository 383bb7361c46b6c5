"""Rule: the secret may be read, exists, is enabled, in date, and has an end.

What is so was found while proving the key (`reconcile/keys.py`), once for all accounts.
"""

from model.finding import Finding
from reconcile.causes import finding
from reconcile.state import State


def check_secret(state: State) -> list[Finding]:
    """Return what speaks for and against the secret as the vault holds it."""
    wish = state.desired
    if wish.secret_cause:
        return [finding(wish.secret_cause, secret=wish.secret_asked)]
    return list(state.key.secret_findings) if state.key else []
