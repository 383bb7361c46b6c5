"""Figures, their bounds, and what is written of them."""

import json
from pathlib import Path

import pytest

from dev.bench import live_tick
from dev.bench.__main__ import QUESTIONS
from dev.bench.report import Figure, Findings, paired, percentile, write

ROOT = Path(__file__).resolve().parents[3]
CONTRACT = (
    "backfill_vs_peer",
    "backfill_vs_floor",
    "tick_vs_sdk_200",
    "tick_vs_floor_200",
    "tick_vs_floor_1000",
    "tick_requests_200",
    "tick_requests_1000",
    "idle_vs_floor",
    "idle_calls_per_account",
    "growth",
    "cold_start_vs_empty",
    "onboarding_calls_per_account",
    "lag_while_backfilling_s",
)


@pytest.mark.parametrize(
    ("value", "at_least", "holds"),
    [(2.5, False, True), (2.6, False, False), (2.5, True, True), (2.4, True, False)],
    ids=["at-most-kept", "at-most-missed", "at-least-kept", "at-least-missed"],
)
def test_bound_is_judged_when_there_is_one(value: float, at_least: bool, holds: bool) -> None:
    assert Figure("k", "", value, 2.5, at_least=at_least).holds is holds


def test_nothing_is_judged_when_there_is_no_bound() -> None:
    assert Figure("k", "", 1.0).holds is None


def test_neighbours_are_compared_when_noise_drifts() -> None:
    ours, theirs = [2.0, 20.0, 6.0], [1.0, 10.0, 3.0]

    assert paired(ours, theirs) == 2.0


def test_unequal_measurements_are_refused_when_paired() -> None:
    with pytest.raises(ValueError, match="shorter"):
        paired([1.0, 2.0], [1.0])


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 3), (0.95, 5), (1.0, 5)])
def test_percentile_is_one_of_the_values_when_taken(share: float, value: int) -> None:
    assert percentile([5, 3, 1, 4, 2], share) == value


def test_figures_are_numbers_beside_the_raw_ones_when_written(tmp_path: Path) -> None:
    answers = {"q": Findings([Figure("q_ratio", "", 1.5, 2.0)], {"wall_s": [1.0, 2.0]})}

    write(tmp_path / "new" / "results.json", answers, quick=True)

    written = json.loads((tmp_path / "new" / "results.json").read_text())
    assert written["q_ratio"] == 1.5
    assert written["raw"] == {"q": {"wall_s": [1.0, 2.0]}}
    assert written["machine"]["quick"] is True


@pytest.mark.parametrize("key", CONTRACT)
def test_key_is_measured_and_explained_when_promised(key: str) -> None:
    sources = "".join(Path(module.__file__).read_text() for module in QUESTIONS.values())
    kinds = ("vs_sdk", "vs_floor", "requests")
    ticks = {f"tick_{kind}_{jobs}" for kind in kinds for jobs in live_tick.FULL.jobs}

    assert key in ticks or f'"{key}"' in sources
    assert f"`{key}`" in (ROOT / "docs" / "performance.md").read_text()
