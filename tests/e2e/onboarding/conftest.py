"""Lets the suites' own assertions explain themselves."""

import pytest

pytest.register_assert_rewrite("tests.e2e.onboarding.place", "tests.e2e.onboarding.scenes")
