"""The hooks' tests: a sandbox of this folder's tests, reset before each."""

from pathlib import Path

import pytest

from tests.dev.sandbox.conftest import sandbox_process
from tests.dev.sandbox.stage import Process
from tests.infra.azure import Azure

__all__ = ["azure", "sandbox_process"]


@pytest.fixture
def azure(sandbox_process: Process, tmp_path: Path) -> Azure:
    found = Azure(sandbox_process.url, tmp_path)
    found.ask("POST", "/_sandbox/reset", {})
    return found
