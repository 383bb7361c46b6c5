"""The catalogue of causes: complete, documented, and safe to paste."""

import string
from pathlib import Path
from typing import get_args

import pytest

from dev.tools.docs import CHECKS, checks_page
from finetune_wandb.model.accounts.report import StepKind
from finetune_wandb.model.causes import causes, finding
from tests.accounts.stage import run_pass
from tests.fakes import account, world

ROOT = Path(__file__).parents[2]


def test_documentation_is_what_make_docs_writes() -> None:
    assert CHECKS.read_text() == checks_page()


@pytest.mark.parametrize("code", causes())
def test_every_cause_but_ok_has_a_remedy(code: str) -> None:
    cause = causes()[code]
    assert cause.meaning
    assert cause.remedy or cause.severity == "ok"


def test_every_cause_is_given_somewhere_in_the_code() -> None:
    text = "".join(path.read_text() for path in (ROOT / "finetune_wandb").rglob("*.py"))
    composed = {f"{step}_denied" for step in get_args(StepKind)}
    composed |= {f"{of}_{right}" for of in ("key", "project") for right in ("read_only", "refused")}
    composed |= {
        f"{fact}_{kind}"
        for fact in ("account", "vault", "access")
        for kind in ("unavailable", "denied", "refused", "missing")
    }
    unused = {code for code in causes() if f'"{code}"' not in text} - composed
    assert unused == set()
    assert composed <= set(causes())


def test_finding_fails_when_a_placeholder_has_no_evidence() -> None:
    with pytest.raises(KeyError):
        finding("secret_missing", vault="kv-main")


@pytest.mark.parametrize(
    "tags",
    [
        {"wandb-key-vault-url": "https://kv-main.vault.azure.net/$(curl evil)"},
        {"wandb-key-vault-url": "$(curl evil)"},
        {"wandb-secret-name": "x; curl evil"},
        {"wandb-entity": "a/`curl evil`"},
        {"wandb-entity": "$(curl evil)"},
        {"wandb-project": "p?$(curl evil)"},
        {"wandb-integration": "$(curl evil)"},
    ],
    ids=str,
)
async def test_text_of_a_tag_never_reaches_a_command(tags: dict[str, str]) -> None:
    report = await run_pass(world(account(tags=tags)))
    assert "curl" not in repr([item.remedy for item in report.findings])
    blocked = [item for item in report.findings if item.severity == "blocked"]
    assert "curl" not in repr([item.evidence for item in blocked])


def test_placeholders_are_plain_names() -> None:
    for cause in causes().values():
        for _, name, spec, _ in string.Formatter().parse(cause.remedy):
            assert name is None or (name.isidentifier() and not spec), cause.code
