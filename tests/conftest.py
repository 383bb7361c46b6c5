"""The order of the tests: what takes longest begins first, so that no worker ends alone with it."""

import pytest

_LONG = ("test_exactly_once.py", "test_live_against_sandbox.py", "test_chaos.py", "test_alerts.py")
"""Files that start no stack and take longer than most that do."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that start a stack, and the other long ones, before all others."""
    # Workers take whole files in this order (`--dist loadfile --no-loadscope-reorder`).
    items.sort(key=_is_short)


def _is_short(item: pytest.Item) -> bool:
    return item.get_closest_marker("stack") is None and item.path.name not in _LONG
