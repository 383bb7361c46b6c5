"""A relay on a stage of its own for each test."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.e2e.relay.stage import Stage, stage


@pytest_asyncio.fixture
async def on_stage() -> AsyncIterator[Stage]:
    async with stage() as ready:
        yield ready
