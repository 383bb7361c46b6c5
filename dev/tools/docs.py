"""Writes the documents that are made from the product's data: docs/checks.md from the causes.

Run: python -m dev.tools.docs
"""

from pathlib import Path

from finetune_wandb.model.causes import Cause, causes, checks

ROOT = Path(__file__).resolve().parents[2]
CHECKS = ROOT / "docs" / "checks.md"

_HEAD = """\
# Checks

What the app checks on every account, and every cause code that a finding can have. Written by `make docs` from
`finetune_wandb/model/causes.toml`; edit that file, not this one.

Severities: **ok** needs no change; **warning** works but should change; **blocked** keeps the integration from
working; **manual** is a step that only a person can take and that the relay does not need. An account is healthy
when nothing is blocked. A finding may be milder than its usual severity: a bad new
key is a warning while an older one is in use.

*Clears on its own*: the app checks again soon without anyone taking action.

Names in braces are filled in. `APP_IDENTITY` is the object id of the function app's managed identity,
`SCOPE_OF_VAULT_…` the vault's ARM id, `DATE` a UTC date, `FILE_WITH_THE_KEY` a file that holds nothing but the key
(delete it afterwards; a key on the command line stays in the shell's history).
"""


def checks_page() -> str:
    """Return docs/checks.md."""
    parts = [_HEAD]
    for check, about in checks().items():
        rows = [_row(cause) for cause in causes().values() if cause.check == check]
        parts.append(
            f"\n## {check}\n\n{about}\n\n"
            "| Cause | Severity | Clears on its own | Meaning | Fix |\n"
            "| --- | --- | --- | --- | --- |\n" + "".join(rows)
        )
    return "".join(parts)


def _row(cause: Cause) -> str:
    remedy = f"`{cause.remedy}`" if cause.remedy.startswith("az ") else cause.remedy
    cells = (
        f"`{cause.code}`",
        cause.severity,
        "yes" if cause.temporary else "no",
        cause.meaning,
        remedy or "–",
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


if __name__ == "__main__":
    CHECKS.write_text(checks_page(), encoding="utf-8")
    print(f"written: {CHECKS.relative_to(ROOT)}")
