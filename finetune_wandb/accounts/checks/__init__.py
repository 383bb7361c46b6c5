"""The checks in the order people read them: each looks at the state and gives findings.

A check never reads, never writes, and gives nothing about a fact that was not asked for: the
finding that forbade asking stands for it.
"""

from collections.abc import Callable

from finetune_wandb.accounts.checks.access import check_access
from finetune_wandb.accounts.checks.eligible import check_eligible
from finetune_wandb.accounts.checks.identity import check_identity
from finetune_wandb.accounts.checks.key import check_key
from finetune_wandb.accounts.checks.portal import check_portal
from finetune_wandb.accounts.checks.record import check_record
from finetune_wandb.accounts.checks.routing import check_routing
from finetune_wandb.accounts.checks.secret import check_secret
from finetune_wandb.accounts.checks.vault import check_vault
from finetune_wandb.accounts.state import State
from finetune_wandb.model.finding import Finding

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
