"""docs/fidelity.md, live-test.md and reliability.md: their references are to what is there."""

import re
from pathlib import Path

import pytest

from dev.tools.chaos import faults
from tests.live.settings import BASIC, OPTIONAL

ROOT = Path(__file__).resolve().parents[1]
FIDELITY = (ROOT / "docs" / "fidelity.md").read_text()
LIVE = "".join(path.read_text() for path in (ROOT / "tests" / "live").glob("test_live_*.py"))
TESTS = set(re.findall(r"^(?:async )?def (test_\w+)", LIVE, re.M))
ROWS = [
    [cell.strip() for cell in line.strip("| ").split(" | ")]
    for part in re.split(r"^## ", FIDELITY, flags=re.MULTILINE)
    if part.startswith(("Azure", "W&B"))
    for line in part.splitlines()
    if line.startswith("| ") and not line.startswith(("| ---", "| assumption"))
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:50])
def test_assumption_has_its_place_evidence_and_live_test(row: list[str]) -> None:
    _, places, evidence, tests = row
    references = re.findall(r"`([\w./-]+):(\w+)`", places)
    assert references
    for file, symbol in references:
        assert re.search(rf"\b{symbol}\b", (ROOT / file).read_text()), f"{file}:{symbol}"
    assert evidence
    named = re.findall(r"`(test_\w+)`", tests)
    assert named or tests == "none yet"
    assert set(named) <= TESTS


def test_every_live_test_has_an_assumption_when_it_is_in_the_suite() -> None:
    own = {
        name for name in TESTS if "when_the_sandbox" not in name and "nothing_is_set" not in name
    }
    assert own - set(re.findall(r"`(test_\w+)`", FIDELITY)) == set()


def test_every_open_point_of_the_deployment_has_a_live_test() -> None:
    section = (ROOT / "docs" / "deploy.md").read_text().split("## Not yet proved against Azure")[1]
    assert set(re.findall(r"\| `(test_\w+)` \|", section)) <= TESTS


def test_every_variable_is_explained_when_the_live_suite_reads_it() -> None:
    text = (ROOT / "docs" / "live-test.md").read_text()
    assert {name for name in (*BASIC, *OPTIONAL) if f"`{name}`" not in text} == set()
    named = set(re.findall(r"`(LIVE_\w+)`", text))
    assert named <= {*BASIC, *OPTIONAL}


def test_every_kind_of_fault_is_in_the_document_when_chaos_draws_it() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text()
    assert {kind for kind in faults.KINDS if kind not in text} == set()
