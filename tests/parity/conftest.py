"""One W&B stand-in, and two ways to write a fine-tuning job's run to it: the SDK's and ours."""

from collections.abc import AsyncIterator

import pytest

from tests.dev.sandbox.wandb.wandb_fixture import WandbServer, wandb_server


@pytest.fixture
async def server() -> AsyncIterator[WandbServer]:
    async with wandb_server() as running:
        yield running
