"""Messages as the host's queue trigger reads them: base64, visible when they should be."""

import asyncio
import base64
from collections.abc import AsyncIterator

import orjson
import pytest

from finetune_wandb.clients.storage.auth import StorageAuth
from finetune_wandb.clients.storage.json_rows import JsonRows, table_key
from finetune_wandb.clients.storage.queue_stats import QueueStats
from finetune_wandb.clients.storage.service import Storage, StorageAddress, read_address
from finetune_wandb.clients.storage.work_queue import WorkQueue
from finetune_wandb.clients.transport import Transport
from finetune_wandb.model.errors import SettingsError, UnavailableError
from finetune_wandb.model.queues import QueueCount
from tests.clients.test_cursor_table_contract import _KEY, until_listening

pytestmark = pytest.mark.stack


@pytest.fixture
async def storage(table_url: str) -> AsyncIterator[Storage]:
    await until_listening(table_url)
    host, _, port = table_url.split("/")[2].partition(":")
    connection = (
        f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={_KEY};"
        f"TableEndpoint={table_url};"
        f"QueueEndpoint=http://{host}:{int(port) - 1}/devstoreaccount1;"
    )
    transport = Transport()
    made = Storage(StorageAddress(connection_string=connection), transport)
    yield made
    await made.close()
    await transport.close()


async def test_messages_are_base64_json_when_they_are_sent(storage: Storage) -> None:
    queue = WorkQueue(storage, "work-queue-one")
    await queue.send({"n": n, "text": "é"} for n in range(40))
    await queue.send([])
    plain = storage.plain_queue("work-queue-one")
    found = []
    async for message in plain.receive_messages(messages_per_page=32):
        found.append(orjson.loads(base64.b64decode(message.content)))
        await plain.delete_message(message)
    assert sorted(one["n"] for one in found) == list(range(40))
    assert found[0]["text"] == "é"


async def test_message_is_seen_later_when_it_is_put_off(storage: Storage) -> None:
    queue = WorkQueue(storage, "work-queue-two")
    await queue.send([{"n": 1}], delay_s=2)
    plain = storage.plain_queue("work-queue-two")
    assert [one async for one in plain.receive_messages()] == []
    await asyncio.sleep(2.5)
    assert len([one async for one in plain.receive_messages()]) == 1


async def test_our_error_is_raised_when_storage_is_away() -> None:
    connection = (
        f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={_KEY};"
        "TableEndpoint=http://127.0.0.1:1/d;QueueEndpoint=http://127.0.0.1:1/d;"
    )
    storage = Storage(StorageAddress(connection_string=connection), Transport())
    with pytest.raises(UnavailableError):
        await JsonRows(storage, "rows").get("a", "b")
    await storage.close()


async def test_rows_are_kept_once_when_they_are_put_and_added(storage: Storage) -> None:
    rows = JsonRows(storage, "jsonrows")
    await rows.put("p/1", "a'b", {"n": 1})
    await rows.put("p/1", "a'b", {"n": 2})
    assert await rows.add("p/1", "a'b", {"n": 3}) is False
    assert await rows.add("p/1", "other é", {"n": 4}) is True
    assert await rows.get("p/1", "a'b") == {"n": 2}
    assert await rows.get("p/1", "none") is None
    assert sorted([row["n"] async for row in rows.rows("p/1")]) == [2, 4]
    assert [row async for row in rows.rows("p/2")] == []
    await rows.delete("p/1", "a'b")
    await rows.delete("p/1", "a'b")
    assert [row["n"] async for row in rows.rows()] == [4]


@pytest.mark.parametrize("text", ["a/b", "a\\b", "a#b?", "", "é", "x" * 999, "a'b", "\x00", "a b"])
def test_key_is_one_that_tables_take_when_the_text_is_odd(text: str) -> None:
    key = table_key(text)
    assert 0 < len(key) <= 512
    assert not set(key) & set("/\\#?'\x00")


def test_keys_stay_apart_when_texts_differ() -> None:
    texts = ["a b", "a  b", "é", "è", "x" * 500, "x" * 501, "A", "a"]
    assert len({table_key(text) for text in texts}) == len(texts)


def test_storage_is_the_hosts_own_when_the_settings_name_it() -> None:
    assert read_address({"AzureWebJobsStorage": "conn"}).connection_string == "conn"
    short = read_address({"AzureWebJobsStorage": "UseDevelopmentStorage=true"})
    assert "TableEndpoint=http://127.0.0.1:10002/devstoreaccount1;" in short.connection_string
    found = read_address({"AzureWebJobsStorage__accountName": "acc"})
    assert found.table_url == "https://acc.table.core.windows.net"
    with pytest.raises(SettingsError) as caught:
        read_address({})
    assert caught.value.subject == "AzureWebJobsStorage"


def test_account_key_is_not_shown_when_an_address_is_printed() -> None:
    address = StorageAddress(connection_string=f"AccountKey={_KEY}")
    assert _KEY not in f"{address} {address!r}"


async def test_messages_are_counted_by_queue_and_poison_queue(storage: Storage) -> None:
    stats = QueueStats(storage, ("work-queue-three", "work-queue-never-made"))
    await WorkQueue(storage, "work-queue-three").send({"n": n} for n in range(3))
    await WorkQueue(storage, "work-queue-three-poison").send([{"n": 1}])
    assert await stats.counts() == [
        QueueCount("work-queue-three", 3, 1),
        QueueCount("work-queue-never-made", 0, 0),
    ]


async def test_connection_string_is_refused_when_it_has_no_key() -> None:
    address = StorageAddress(
        connection_string="TableEndpoint=http://127.0.0.1:1;SharedAccessSignature=s3cr3t"
    )
    with pytest.raises(SettingsError) as raised:
        await StorageAuth(Storage(address, Transport()), "table").headers("GET", "http://x/y")
    assert "s3cr3t" not in str(raised.value)
