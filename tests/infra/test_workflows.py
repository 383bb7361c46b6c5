"""GitHub Actions: pinned, without stored secrets, calling commands that exist."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.infra.bicep import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
every_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def _steps(path: Path) -> list[dict[str, Any]]:
    content = yaml.safe_load(path.read_text())
    return [step for job in content["jobs"].values() for step in job["steps"]]


@every_workflow
def test_actions_are_pinned_to_a_major_version(path: Path) -> None:
    for step in _steps(path):
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"]), step["uses"]


@every_workflow
def test_no_secret_is_stored_and_rights_are_named(path: Path) -> None:
    text = path.read_text()
    assert "secrets." not in text
    permissions = yaml.safe_load(text)["permissions"]
    assert permissions["contents"] == "read"
    assert set(permissions) - {"contents"} <= ({"id-token"} if path.stem == "deploy" else set())


@every_workflow
def test_every_job_ends_by_itself(path: Path) -> None:
    for job in yaml.safe_load(path.read_text())["jobs"].values():
        assert job["timeout-minutes"] <= 60


def test_make_targets_of_the_workflows_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for path in WORKFLOWS:
        for step in _steps(path):
            for target in re.findall(r"\bmake (\w+)", step.get("run", "")):
                assert re.search(rf"^{target}:", makefile, re.M), target


def test_python_version_is_the_same_everywhere() -> None:
    version = (ROOT / ".python-version").read_text().strip()
    assert f"version: '{version}'" in (ROOT / "infra" / "modules" / "app.bicep").read_text()
    assert f'_PYTHON: Final = "{version}"' in (ROOT / "infra" / "hooks" / "checks.py").read_text()


def test_deploy_passes_parameters_that_exist() -> None:
    content = yaml.safe_load((ROOT / ".github" / "workflows" / "deploy.yml").read_text())
    parameters = (ROOT / "infra" / "main.parameters.json").read_text()
    azd_own = {"AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_SUBSCRIPTION_ID"}
    passed = set(content["jobs"]["deploy"]["env"]) - azd_own
    # All of them: one that is left out would fall back to its default with each deployment.
    assert passed == set(re.findall(r"\$\{(\w+)", parameters))


def test_updates_cover_every_kind_of_dependency() -> None:
    content = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text())
    kinds = {entry["package-ecosystem"] for entry in content["updates"]}
    assert kinds == {"pip", "npm", "github-actions"}


def test_azure_yaml_names_the_service_that_the_app_is_tagged_with() -> None:
    content = yaml.safe_load((ROOT / "azure.yaml").read_text())
    (service,) = content["services"]
    assert content["services"][service]["host"] == "function"
    app = (ROOT / "infra" / "modules" / "app.bicep").read_text()
    assert f"'azd-service-name': '{service}'" in app
    assert content["infra"] == {"provider": "bicep", "path": "infra", "module": "main"}
