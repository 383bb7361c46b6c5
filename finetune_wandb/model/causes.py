"""Every cause code: which check reports it, how bad it is, what it means and how to fix it.

The texts are data, in `causes.toml`; `make docs` writes docs/checks.md from them. Remedies are
templates over the evidence of the finding. Evidence that goes into a command has passed
`ids.py`: a person who tags an account must not write what an administrator pastes into a shell.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

from finetune_wandb.model.accounts.report import Finding, Severity

_FILE: Final = Path(__file__).with_name("causes.toml")
_OLDER: Final = " Reported as a warning while an older version that W&B accepted stays in use."


@dataclass(frozen=True, slots=True)
class Cause:
    """One entry. `severity` is the usual one; a check may say otherwise."""

    code: str
    check: str
    severity: Severity
    meaning: str
    remedy: str = ""
    temporary: bool = False
    """True: it can clear on its own, so another pass is worthwhile."""
    older_in_use: bool = False
    """True: it is about one version of a secret; an older one may be in use."""


@cache
def checks() -> Mapping[str, str]:
    """Return each check's name with the question it answers, in the order people read them."""
    return {check: entry["about"] for check, entry in _read().items() if check != "texts"}


@cache
def causes() -> Mapping[str, Cause]:
    """Return every cause by its code, in the order of the checks."""
    data = _read()
    found: dict[str, Cause] = {}
    for check in checks():
        for code, entry in data[check]["causes"].items():
            remedy = entry.get("remedy", "")
            for name, text in data["texts"].items():
                remedy = remedy.replace(f"{{{name}}}", text)
            meaning = entry["meaning"] + (_OLDER if entry.get("older_in_use") else "")
            flags = (entry.get("temporary", False), entry.get("older_in_use", False))
            found[code] = Cause(code, check, entry["severity"], meaning, remedy, *flags)
    return found


@cache
def _read() -> Mapping[str, Any]:
    import tomllib  # read with the first finding, to keep it out of a cold start

    return tomllib.loads(_FILE.read_text(encoding="utf-8"))


def finding(cause: str, /, **evidence: str) -> Finding:
    """Return the finding of a cause. `evidence` must fill every placeholder of its remedy."""
    entry = causes()[cause]
    return Finding(
        check=entry.check,
        severity=entry.severity,
        cause=cause,
        evidence={name: value for name, value in evidence.items() if value},
        remedy=entry.remedy.format(**evidence),
    )


def as_warning(item: Finding) -> Finding:
    """Return the finding as a warning: something else still does the work."""
    return replace(item, severity="warning")


def is_temporary(item: Finding) -> bool:
    """Return whether a finding can clear on its own."""
    return causes()[item.cause].temporary
