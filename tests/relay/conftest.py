"""The stage that a pass is played on, and how many examples hypothesis tries.

`HYPOTHESIS_PROFILE=long` is for a night, `thorough` for a change of the relay. Examples are new in
every run; a failing one is printed with the blob and seed that bring it back.
"""

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.relay.stage import Stage

_COMMON = {
    "deadline": None,
    "derandomize": False,
    "print_blob": True,
    "database": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
settings.register_profile("thorough", max_examples=1000, **_COMMON)
settings.register_profile("ci", max_examples=80, **_COMMON)
settings.register_profile("long", max_examples=50_000, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture
def stage() -> Stage:
    return Stage()
