"""Every cause code: which check gives it, how bad it is, what it means, what to do about it.

The one place for these texts: findings take their remedy from here and `docs/checks.md` lists
the same. Remedies are templates over the evidence of the finding; evidence that goes into a
command has passed `finetune_wandb/model/ids.py`, since whoever tags an account must not write what an
administrator pastes into a shell.
"""

from dataclasses import dataclass, replace

from finetune_wandb.model.cause_table import TABLE
from finetune_wandb.model.finding import Finding, Severity


@dataclass(frozen=True, slots=True)
class Cause:
    """One row of the catalogue. `severity` is the usual one; a check may say otherwise."""

    code: str
    check: str
    severity: Severity
    meaning: str
    remedy: str
    temporary: bool = False
    """True: it may pass by itself, so another pass is worth while."""


CAUSES: dict[str, Cause] = {
    code: Cause(code, check, severity, meaning, remedy, temporary)
    for check, rows in TABLE.items()
    for code, severity, temporary, meaning, remedy in rows
}


def finding(cause: str, /, **evidence: str) -> Finding:
    """Return the finding of a cause. `evidence` must fill every placeholder of its remedy."""
    row = CAUSES[cause]
    return Finding(
        check=row.check,
        severity=row.severity,
        cause=cause,
        evidence={name: value for name, value in evidence.items() if value},
        remedy=row.remedy.format(**evidence),
    )


def as_warning(item: Finding) -> Finding:
    """Return the finding made milder: something else still does the work."""
    return replace(item, severity="warning")


def is_temporary(item: Finding) -> bool:
    """Return whether a finding may pass by itself."""
    return CAUSES[item.cause].temporary
