"""The checks in the order people read them: each looks at the state and gives findings.

A check never reads, never writes, and gives nothing about a fact that was not asked for: the
finding that forbade asking stands for it.
"""

from collections.abc import Callable

from model.finding import Finding
from reconcile.checks.access import check_access
from reconcile.checks.eligible import check_eligible
from reconcile.checks.identity import check_identity
from reconcile.checks.key import check_key
from reconcile.checks.portal import check_portal
from reconcile.checks.record import check_record
from reconcile.checks.routing import check_routing
from reconcile.checks.secret import check_secret
from reconcile.checks.vault import check_vault
from reconcile.state import State

Check = Callable[[State], list[Finding]]

_CHECKS: tuple[Check, ...] = (
    check_identity,
    check_vault,
    check_secret,
    check_key,
    check_routing,
    check_access,
    check_record,
    check_portal,
)


def check_all(state: State) -> tuple[Finding, ...]:
    """Return the findings of all checks; of an account out of scope, only why it is so."""
    findings = check_eligible(state)
    if state.desired.in_scope:
        for check in _CHECKS:
            findings += check(state)
    return tuple(findings)
