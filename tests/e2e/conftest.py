"""One running stack for each module of end-to-end tests."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.e2e.driver import Driver, running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def driver(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Driver]:
    async with running(tmp_path_factory.mktemp("run")) as started:
        await started.key_accepted()
        yield started
