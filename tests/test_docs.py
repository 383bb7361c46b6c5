"""Documents say what is so: settings, commands, paths and functions that they name exist."""

import ast
import json
import re
from pathlib import Path

import pytest

from finetune_wandb.model import settings
from finetune_wandb.model.relay.state import TRANSITIONS
from tests.fakes import setting_defaults

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "DEVELOPMENT.md", *sorted((ROOT / "docs").glob("*.md"))]
SANDBOX_ONLY = {"WANDB_BASE_URL", "WANDB_APP_URL", "SANDBOX_URL"}
"""Settings whose sample value is not the default, for the sandbox's sake."""

by_name = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def section(title: str) -> str:
    text = (ROOT / "README.md").read_text()
    return text.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def settings_table() -> list[list[str]]:
    """Return the rows of README's table: setting, default, meaning."""
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in section("Settings").splitlines()
        if line.startswith("| `")
    ]


def test_readme_has_every_setting_with_its_default_when_settings_are_read() -> None:
    def shown(default: str | None) -> str:
        return "required" if default is None else f"`{default}`" if default else "empty"

    assert [(row[0].strip("`"), row[1]) for row in settings_table()] == [
        (name, shown(default)) for name, default in setting_defaults().items()
    ]
    assert all(len(row) == 3 and row[2] for row in settings_table())


def test_sample_has_every_setting_when_settings_are_read() -> None:
    values = json.loads((ROOT / "local.settings.sample.json").read_text())["Values"]
    host_only = {"FUNCTIONS_WORKER_RUNTIME", "AzureWebJobsStorage"}
    assert [name for name in values if name not in host_only] == list(setting_defaults())
    for name, default in setting_defaults().items():
        if default is not None and name not in SANDBOX_ONLY:
            assert values[name] == default, name
    settings.read_settings(values)


@by_name
def test_links_lead_somewhere_when_they_stay_in_the_repository(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), target


@by_name
def test_paths_exist_when_they_are_named_in_code_type(document: Path) -> None:
    folders = "|".join(
        entry.name for entry in ROOT.iterdir() if entry.is_dir() and entry.name[0] != "."
    )
    for path in re.findall(rf"`((?:{folders})/[\w./-]*)`", document.read_text()):
        assert (ROOT / path).exists(), path


@by_name
def test_make_targets_exist_when_they_are_named(document: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = document.read_text()
    named = re.findall(r"(?:`|^|[A-Z_]+=\S+ )make ([a-z]+)\b", text, re.MULTILINE)
    assert set(named) <= targets


def test_every_package_has_its_paragraph_when_it_is_part_of_the_tree() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} | {"tests", "infra"}
    text = (ROOT / "docs" / "architecture.md").read_text()
    missing = {name for name in packages if f"`{name}/" not in text}
    assert missing == set()


def test_every_http_call_is_in_the_readme_when_the_app_answers_it() -> None:
    routes = {
        route
        for handler in (ROOT / "handlers").glob("*.py")
        for route in re.findall(r"\.route\(\s*route=\"([^\"]+)\"", handler.read_text())
    }
    table = (ROOT / "handlers" / "triggers.py").read_text().split("_ROUTES")[1].split("\n)\n")[0]
    routes |= set(re.findall(r'^    \("\w+", "([^"]+)"', table, re.MULTILINE))
    assert {"health", "audit"} <= routes
    listed = section("HTTP API")
    assert {route for route in routes if f"/api/{route}` |" not in listed} == set()


def test_every_alert_is_in_its_document_when_the_relay_can_raise_it() -> None:
    """By kind, reason and level, as they stand in the code that makes them."""
    raised = set()
    for call in ast.walk(
        ast.parse((ROOT / "finetune_wandb" / "relay" / "run" / "alerts.py").read_text())
    ):
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "_alert":
            kind = ast.literal_eval(call.args[0])
            more = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
            reason = f"{kind}:{more['part']}" if "part" in more else kind
            raised.add((kind, reason, more.get("level", "WARN")))
    rows = [
        [cell.strip(" `") for cell in line.strip("|").split(" | ")]
        for line in (ROOT / "docs" / "alerts.md").read_text().splitlines()
        if line.startswith("| `")
    ]
    assert {(row[0], row[1], row[3]) for row in rows} == raised
    assert len(rows) == len(raised)
    kinds = {kind for kind, _, _ in raised}
    assert kinds == set((setting_defaults()["ALERTS"] or "").split(","))


def test_words_are_in_order_and_explained_once_when_the_glossary_is_read() -> None:
    lines = (ROOT / "docs" / "glossary.md").read_text().splitlines()
    words = [line.split(" | ")[0].strip("| ") for line in lines if line.startswith("| ")][2:]
    assert words == sorted(set(words), key=str.lower)


@by_name
def test_calls_with_a_body_name_its_type_when_they_ask_the_app(document: Path) -> None:
    """curl names another type by itself, which the app refuses."""
    commands = document.read_text().replace("\\\n", " ").splitlines()
    calls = [line for line in commands if "curl" in line and "/api/" in line and " -d " in line]
    assert all("Content-Type: application/json" in line for line in calls)


def test_transitions_are_those_of_the_code_when_the_page_on_crashes_shows_them() -> None:
    text = (ROOT / "docs" / "crash.md").read_text()
    table = text.split("| state | relayed |", 1)[1].split("\n\n", 1)[0].splitlines()
    happened = ["relayed", *(cell.strip() for cell in table[0].strip(" |").split("|"))]
    shown = {}
    for line in table[2:]:
        state, *cells = (cell.strip(" `") for cell in line.strip("|").split(" | "))
        shown[state] = {
            name: cell for name, cell in zip(happened, cells, strict=True) if cell != "–"
        }
    assert shown == {
        state.value: {name.value: after.value for name, after in follows.items()}
        for state, follows in TRANSITIONS.items()
    }
