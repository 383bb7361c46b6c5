"""Where tables and queues are: the function app's own storage account, or Azurite.

Reads the same settings as the Functions host (`AzureWebJobsStorage`, or its identity-based
parts), so that the app can never look at another storage than its triggers do.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune_wandb.clients.translate import translated
from finetune_wandb.clients.transport import Transport
from finetune_wandb.model.errors import SettingsError

if TYPE_CHECKING:
    from azure.data.tables.aio import TableClient
    from azure.storage.queue.aio import QueueClient

_NAME = "AzureWebJobsStorage"
_SHORTHAND = "usedevelopmentstorage=true"
_EMULATOR = (
    "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey="
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;"
    "QueueEndpoint=http://127.0.0.1:10001/devstoreaccount1;"
    "TableEndpoint=http://127.0.0.1:10002/devstoreaccount1;"
)
"""What the shorthand stands for with `func start`, which leaves it as it is. The emulator's account
and key are the same everywhere, and public."""


@dataclass(frozen=True, slots=True)
class StorageAddress:
    """A connection string, or the two service URLs to use with the app's identity."""

    connection_string: str = ""
    table_url: str = ""
    queue_url: str = ""

    def __repr__(self) -> str:
        # A connection string holds the account's key.
        return f"StorageAddress(table_url={self.table_url!r}, queue_url={self.queue_url!r})"


def read_address(source: Mapping[str, str]) -> StorageAddress:
    """Return the storage that the host's settings name. Raises SettingsError for none."""
    if connection := source.get(_NAME, ""):
        is_short = connection.strip().rstrip(";").lower() == _SHORTHAND
        return StorageAddress(connection_string=_EMULATOR if is_short else connection)
    account = source.get(f"{_NAME}__accountName", "")
    table = source.get(f"{_NAME}__tableServiceUri", "")
    queue = source.get(f"{_NAME}__queueServiceUri", "")
    if account:
        table = table or f"https://{account}.table.core.windows.net"
        queue = queue or f"https://{account}.queue.core.windows.net"
    if not table or not queue:
        raise SettingsError(
            "names no storage account",
            subject=_NAME,
            remedy=f"set {_NAME}__accountName to the app's storage account, or {_NAME} to a"
            " connection string",
        )
    return StorageAddress(table_url=table, queue_url=queue)


class Storage:
    """Table and queue clients of one process, made when first asked for and kept."""

    def __init__(self, address: StorageAddress, transport: Transport) -> None:
        self.address = address
        self.transport = transport
        self._tables: dict[str, TableClient] = {}
        self._queues: dict[str, QueueClient] = {}
        self._plain: dict[str, QueueClient] = {}
        self._lock = asyncio.Lock()

    async def table(self, name: str) -> "TableClient":
        """Return the table's client; the table exists when this returns."""
        if name not in self._tables:
            async with self._lock:
                if name not in self._tables:
                    self._tables[name] = await self._open_table(name)
        return self._tables[name]

    async def queue(self, name: str) -> "QueueClient":
        """Return the queue's client, base64 as the host reads it; the queue exists."""
        if name not in self._queues:
            async with self._lock:
                if name not in self._queues:
                    self._queues[name] = await self._open_queue(name)
        return self._queues[name]

    def plain_queue(self, name: str) -> "QueueClient":
        """Return a client that leaves messages as they are; the queue may not exist."""
        if name not in self._plain:
            self._plain[name] = self._queue_client(name, {})
        return self._plain[name]

    async def _open_table(self, name: str) -> "TableClient":
        from azure.core.exceptions import ResourceExistsError
        from azure.data.tables.aio import TableClient

        if self.address.connection_string:
            client = TableClient.from_connection_string(
                self.address.connection_string, name, **_options(_RETRY)
            )
        else:
            client = TableClient(
                self.address.table_url,
                name,
                credential=self.transport.credential(),
                **_options(_RETRY),
            )
        await _made(client, client.create_table, ResourceExistsError, f"table {name}")
        return client

    async def _open_queue(self, name: str) -> "QueueClient":
        from azure.core.exceptions import ResourceExistsError
        from azure.storage.queue import TextBase64DecodePolicy, TextBase64EncodePolicy

        codec: dict[str, Any] = {
            "message_encode_policy": TextBase64EncodePolicy(),
            "message_decode_policy": TextBase64DecodePolicy(),
        }
        client = self._queue_client(name, codec)
        await _made(client, client.create_queue, ResourceExistsError, f"queue {name}")
        return client

    def _queue_client(self, name: str, codec: dict[str, Any]) -> "QueueClient":
        from azure.storage.queue.aio import QueueClient

        if self.address.connection_string:
            return QueueClient.from_connection_string(
                self.address.connection_string, name, **codec, **_options(_QUEUE_RETRY)
            )
        return QueueClient(
            self.address.queue_url,
            name,
            credential=self.transport.credential(),
            **codec,
            **_options(_QUEUE_RETRY),
        )

    async def close(self) -> None:
        """Close every client that was made."""
        for table in self._tables.values():
            await table.close()
        for queue in (*self._queues.values(), *self._plain.values()):
            await queue.close()


async def _made(
    client: Any, create: Callable[[], Awaitable[Any]], exists: type[Exception], subject: str
) -> None:
    """Create what the client is for unless it is there; a client that cannot is closed.

    Raises our errors.
    """
    try:
        with translated(subject, "Storage"), contextlib.suppress(exists):
            await create()
    except BaseException:  # raised on, a cancellation too
        # The next caller opens a new one; this one's session must not stay behind.
        await client.close()
        raise


def _options(retries: dict[str, Any]) -> dict[str, Any]:
    """Return keyword arguments for a client, which closes the transport that it is given."""
    from azure.core.pipeline.transport import AioHttpTransport

    from finetune_wandb.clients.azure.sdk_transport import needs_environment

    return {"transport": AioHttpTransport(use_env_settings=needs_environment()), **retries}


_RETRY: dict[str, Any] = {"retry_total": 4, "retry_backoff_factor": 0.2, "retry_backoff_max": 4}
"""Clients retry for seconds; the host retries for longer."""
_QUEUE_RETRY: dict[str, Any] = {
    "retry_total": 4,
    "initial_backoff": 0.2,
    "increment_base": 2,
    "random_jitter_range": 0.2,
}
"""The same in the queue SDK's own words; its defaults wait for more than a minute."""
