"""Accounts as plain facts, and reports that survive being stored."""

import msgspec
import pytest

from finetune_wandb.model.accounts.account import openai_endpoint
from finetune_wandb.model.accounts.report import Finding, Step, StepOutcome
from tests.accounts.stage import run_pass
from tests.fakes import account, world


@pytest.mark.parametrize(
    ("primary", "others", "expected"),
    [
        ("https://a.openai.azure.com/", {}, "https://a.openai.azure.com"),
        (
            "https://a.cognitiveservices.azure.com/",
            {"Speech": "https://a.x.example/", "OpenAI": "https://a.openai.azure.com/"},
            "https://a.openai.azure.com",
        ),
        (
            "https://a.cognitiveservices.azure.com/",
            {"Evil": "https://openai.azure.com.evil.example/"},
            "https://a.cognitiveservices.azure.com",
        ),
        ("", {}, ""),
    ],
)
def test_openai_endpoint_is_chosen(primary: str, others: dict[str, str], expected: str) -> None:
    assert openai_endpoint(primary, others) == expected


def test_tag_is_found_whatever_its_case_and_without_blanks() -> None:
    found = account(tags={"WandB-Project": " p "})
    assert found.tag("wandb-project") == "p"
    assert found.tag("wandb-entity") == ""


@pytest.mark.parametrize(
    ("state", "settled"),
    [("Succeeded", True), ("Failed", True), ("Canceled", True), ("Moving", False), ("New", False)],
)
def test_account_is_settled_only_in_known_states(state: str, settled: bool) -> None:
    assert account(provisioning_state=state).settled is settled


async def test_report_comes_back_when_it_was_plain_data() -> None:
    report = await run_pass(world())
    for items, kind in (
        (report.findings, Finding),
        (report.plan, Step),
        (report.steps, StepOutcome),
    ):
        assert items
        assert msgspec.convert(msgspec.to_builtins(items), tuple[kind, ...]) == items
