"""Lets the suites' own assertions explain themselves."""

import pytest

pytest.register_assert_rewrite(
    *(f"tests.e2e.onboarding.{name}" for name in ("place", "scene", "scenes", "life"))
)
