"""The checks in the order people read them: each looks at the state and returns findings.

A check never reads or writes. It reports nothing about a fact that was not read: the finding that
prevented the read stands for it.
"""

from collections.abc import Callable

from finetune_wandb.accounts.checks.account import (
    check_eligible,
    check_identity,
    check_portal,
    check_record,
    check_routing,
)
from finetune_wandb.accounts.checks.vault import check_access, check_key, check_vault
from finetune_wandb.accounts.read import State
from finetune_wandb.model.accounts.report import Finding

Check = Callable[[State], list[Finding]]

_CHECKS: tuple[Check, ...] = (
    check_identity,
    check_vault,
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
