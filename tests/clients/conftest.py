"""The sandbox process, Azurite's tables, and the product's own transport to both."""

import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest

from dev.tools import azurite, ports
from finetune_wandb.clients.storage.service import Storage, StorageAddress
from finetune_wandb.clients.storage.tables import Table
from finetune_wandb.clients.transport import Transport
from tests.dev.sandbox.conftest import sandbox, sandbox_process
from tests.dev.sandbox.stage import Client

__all__ = ["sandbox", "sandbox_process"]

ROOT = Path(__file__).parents[2]
_NAME = "devstoreaccount1"
# Azurite's published account key: the same on every machine, secret nowhere.
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@pytest.fixture
async def transport(sandbox: Client) -> AsyncIterator[Transport]:
    made = Transport(sandbox.process.url)
    yield made
    await made.close()


@pytest.fixture(scope="session")
def table_url() -> Iterator[str]:
    """Azurite in memory; the address of its tables."""
    port = ports.free().azurite
    process = subprocess.Popen(
        azurite.command(ROOT, port, None), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port + 2}/{_NAME}"
    try:
        for _ in range(200):
            try:
                urlopen(url, timeout=1).close()
            except HTTPError:
                break
            except (URLError, ConnectionError):
                time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
async def storage(table_url: str) -> AsyncIterator[Storage]:
    """Storage with empty tables."""
    text = (
        f"DefaultEndpointsProtocol=http;AccountName={_NAME};AccountKey={_KEY};"
        f"TableEndpoint={table_url};"
    )
    own = Transport()
    made = Storage(StorageAddress(connection_string=text), own)
    yield made
    for name in ("accounts", "keys", "keymints", "jobs", "audit"):
        table = Table(made, name)
        for row in await table.query(columns=("PartitionKey", "RowKey")):
            await table.delete(row["PartitionKey"], row["RowKey"])
    await own.close()
