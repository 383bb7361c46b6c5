"""One stack for all attacks; each has its own account and job."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.e2e.driver import Driver, running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def driver(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Driver]:
    async with running(tmp_path_factory.mktemp("attack")) as found:
        await found.key_accepted()
        yield found
