"""The harness on a real stack, with sizes that prove only that it works."""

from pathlib import Path

import pytest

from dev.bench import live_tick

pytestmark = pytest.mark.stack


async def test_requests_are_exact_when_a_tick_is_measured(tmp_path: Path) -> None:
    findings = await live_tick.measure(tmp_path, live_tick.Size((3,), 1))

    values = {figure.key: figure.value for figure in findings.figures}
    assert values["tick_requests_3"] == 1.0
    assert values["tick_vs_floor_3"] > 0
    assert values["tick_vs_sdk_3"] > 0
    raw = findings.raw["3"]
    assert raw["requests"] == [{"events": 3, "file_stream": 3, "jobs": 1}]
    assert raw["floor_requests"] == 7
    # Steps 61 to 65 of each job, without validation.
    assert raw["floor"][0]["values"] == 3 * 5 * 2
