"""docs/deploy.md says what is there: parameters, costs, files, commands."""

import json
import re

import pytest

from infra.commands.cost import LOG_ALERTS, TICKS, Assumptions, estimate, main
from tests.infra.bicep import INFRA, ROOT, read

DEPLOY = (ROOT / "docs" / "deploy.md").read_text()


def test_every_variable_that_sets_a_parameter_is_explained() -> None:
    text = (INFRA / "main.parameters.json").read_text()
    azd_own = {"AZURE_ENV_NAME", "AZURE_LOCATION"}
    for name in set(re.findall(r"\$\{(\w+)", text)) - azd_own:
        assert f"`{name}`" in DEPLOY, name


def test_every_parameter_is_in_the_file_or_explained() -> None:
    given = json.loads((INFRA / "main.parameters.json").read_text())["parameters"]
    for name in set(read("main.bicep").params) - set(given):
        assert f"`{name}`" in DEPLOY, name


@pytest.mark.parametrize("accounts", [10, 200])
def test_costs_are_those_of_the_calculator(accounts: int) -> None:
    column = {10: 3, 200: 4}[accounts]
    for item, usd in estimate(accounts, Assumptions()).items():
        (row,) = [line for line in DEPLOY.splitlines() if line.startswith(f"| {item} |")]
        assert row.split("|")[column].strip() == f"{usd:.2f}", item


def test_private_endpoints_cost_what_is_said() -> None:
    cost = estimate(10, Assumptions(), private=True)["private endpoints"]
    assert f"adds {cost:.2f} " in DEPLOY


def test_compute_grows_by_the_price_when_nothing_is_free() -> None:
    # One account without jobs: ticks of a second and 720 passes of half a second, on 2 GB.
    bare = Assumptions(free_gb_s=0, active_share=0)
    assert estimate(1, bare)["compute"] == pytest.approx((TICKS + 360) * 2 * 0.000026)


def test_calculator_takes_other_prices(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--accounts", "10", "--set", "log_alert=0", "--set", "metric_alert=0"]) == 0
    assert re.search(r"^alerts +0\.00 USD$", capsys.readouterr().out, re.M)
    with pytest.raises(SystemExit):
        main(["--set", "nonsense=1"])


@pytest.mark.parametrize("name", ["deploy", "security", "troubleshooting", "live-test"])
def test_links_between_documents_lead_somewhere(name: str) -> None:
    text = (ROOT / "docs" / f"{name}.md").read_text()
    for target in re.findall(r"\]\(([\w.-]+\.md)", text):
        assert (ROOT / "docs" / target).is_file(), target


def test_outputs_used_in_commands_exist() -> None:
    outputs = read("main.bicep").outputs
    texts = DEPLOY + (ROOT / "docs" / "troubleshooting.md").read_text()
    used = set(re.findall(r"\$\{?([A-Z]+(?:_[A-Z]+)+)\b", texts))
    assert used <= outputs, used - outputs


def test_every_open_point_has_its_live_test() -> None:
    section = DEPLOY.split("## Not yet proved against Azure")[1]
    rows = [line for line in section.splitlines() if line.startswith("| ")][2:]
    assert len(rows) >= 8
    assert all(re.search(r"\| `test_\w+` \|$", row) for row in rows)
    assert len({row.split("|")[2] for row in rows}) == len(rows)


def test_alerts_are_listed() -> None:
    alerts = read("modules/alerts.bicep").source.decode()
    for name in re.findall(r"^    name: '([\w-]+)'$", alerts, re.M):
        assert name.replace("-", " ") in DEPLOY, name


def test_every_alert_rule_is_paid_for() -> None:
    alerts = read("modules/alerts.bicep").source.decode()
    assert len(re.findall(r"^    query: \w+$", alerts, re.M)) == LOG_ALERTS
    assert f"{LOG_ALERTS} log alerts" in DEPLOY
