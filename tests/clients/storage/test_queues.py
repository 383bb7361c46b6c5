"""Queues over real HTTP: base64 as the host's trigger reads it, seen in time, put back as it was."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import orjson
import pytest
from azure.storage.queue import (
    AccountSasPermissions,
    ResourceTypes,
    generate_account_sas,
)

from finetune_wandb.clients.storage.queues import Queue, Queues
from finetune_wandb.clients.storage.service import Storage, StorageAddress, read_address
from finetune_wandb.clients.storage.tables import Rows, RowWrite, Table, table_key
from finetune_wandb.clients.transport import Transport
from finetune_wandb.model.errors import ConflictError, SettingsError, UnavailableError
from finetune_wandb.model.messages import Message
from finetune_wandb.model.work import QueueCount
from tests.clients.http_stage import answering
from tests.clients.storage.test_cursor_table_contract import _KEY, until_listening

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
    await transport.close()


async def test_messages_are_base64_json_when_they_are_sent(storage: Storage) -> None:
    class Numbered(Message, frozen=True, kw_only=True):
        queue: ClassVar[str] = "work-queue-one"
        n: int

    queues = Queues(storage, ("work-queue-one",))
    await queues.send(Numbered(n=n, trigger="é") for n in range(40))
    await queues.send([])
    plain = Queue(storage, "work-queue-one")
    found = []
    while messages := await plain.receive(32, hide_s=60):
        for message in messages:
            found.append(orjson.loads(message.body))
            await message.remove()
    assert sorted(one["n"] for one in found) == list(range(40))
    assert found[0]["trigger"] == "é"


async def test_message_is_seen_later_when_it_is_put_off(storage: Storage) -> None:
    class Late(Message, frozen=True):
        queue: ClassVar[str] = "work-queue-two"

    await Queues(storage, ("work-queue-two",)).send([Late()], delay_s=2)
    plain = Queue(storage, "work-queue-two")
    assert await plain.receive(1, hide_s=1) == []
    await asyncio.sleep(2.5)
    assert len(await plain.receive(32, hide_s=1)) == 1


async def test_poison_messages_are_read_decoded_and_removed_one_by_one(storage: Storage) -> None:
    odd = 'not base64 <&> "é"'
    poison = Queue(storage, "work-queue-four-poison")
    for number in range(40):
        await poison.put(base64.b64encode(str(number).encode()).decode())
    await poison.put(odd)
    queues = Queues(storage, ("work-queue-four",))
    bodies = []
    async for one in queues.poisoned():
        assert one.queue == "work-queue-four"
        bodies.append(one.body)
        await one.remove()
    assert sorted(bodies) == sorted([*(str(n).encode() for n in range(40)), odd.encode()])
    assert await queues.counts() == [QueueCount("work-queue-four", 0, 0)]
    await queues.put("work-queue-four", b"7")
    (back,) = await Queue(storage, "work-queue-four").receive(32, hide_s=60)
    assert back.body == b"7"


async def test_our_error_is_raised_when_storage_is_away() -> None:
    connection = (
        f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={_KEY};"
        "TableEndpoint=http://127.0.0.1:1/d;QueueEndpoint=http://127.0.0.1:1/d;"
    )
    transport = Transport()
    storage = Storage(StorageAddress(connection_string=connection), transport)
    with pytest.raises(UnavailableError):
        await Rows(storage, "rows", dict).read("a", "b")
    await transport.close()


async def test_rows_are_kept_once_when_they_are_put_and_added(storage: Storage) -> None:
    rows = Rows(storage, "jsonrows", dict)
    await rows.put("p/1", "a'b", {"n": 1})
    await rows.put("p/1", "a'b", {"n": 2})
    with pytest.raises(ConflictError):
        await rows.put("p/1", "a'b", {"n": 3}, over="")
    etag = await rows.put("p/1", "other é", {"n": 3}, over="")
    assert await rows.read("p/1", "other é") == ({"n": 3}, etag)
    await rows.put("p/1", "other é", {"n": 4}, over=etag)
    with pytest.raises(ConflictError):
        await rows.put("p/1", "other é", {"n": 5}, over=etag)
    assert (await rows.read("p/1", "a'b"))[0] == {"n": 2}
    assert await rows.read("p/1", "none") == (None, "")
    assert sorted(row["n"] for row in await rows.rows("p/1")) == [2, 4]
    assert await rows.rows("p/2") == []
    await rows.delete("p/1", "a'b")
    await rows.delete("p/1", "a'b")
    assert [row["n"] for row in await rows.rows()] == [4]


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
    for name, count in (("work-queue-three", 3), ("work-queue-three-poison", 1)):
        for number in range(count):
            await Queue(storage, name).put(str(number))
    queues = Queues(storage, ("work-queue-three", "work-queue-never-made"))
    assert await queues.counts() == [
        QueueCount("work-queue-three", 3, 1),
        QueueCount("work-queue-never-made", 0, 0),
    ]


async def test_connection_string_is_refused_when_it_has_no_key() -> None:
    storage = Storage(
        StorageAddress(connection_string="TableEndpoint=http://127.0.0.1:1;Pass=s3cr3t"),
        Transport(),
    )
    with pytest.raises(SettingsError) as raised:
        await Queue(storage, "some-queue").count()
    assert "s3cr3t" not in str(raised.value)


async def test_shared_access_signature_opens_tables_and_queues(table_url: str) -> None:
    await until_listening(table_url)
    host, _, port = table_url.split("/")[2].partition(":")
    signature = generate_account_sas(
        "devstoreaccount1",
        _KEY,
        resource_types=ResourceTypes(service=True, container=True, object=True),
        permission=AccountSasPermissions(
            read=True, write=True, delete=True, list=True, add=True, update=True, process=True
        ),
        expiry=datetime.now(UTC) + timedelta(hours=1),
        services="qt",
    )
    connection = (
        f"TableEndpoint={table_url};QueueEndpoint=http://{host}:{int(port) - 1}/devstoreaccount1;"
        f"SharedAccessSignature={signature}"
    )
    transport = Transport()
    storage = Storage(StorageAddress(connection_string=connection), transport)
    queue, rows = Queue(storage, "sas-queue"), Rows(storage, "sasrows", dict)
    await queue.put("text")
    (message,) = await queue.receive(1, hide_s=60)
    await message.remove()
    assert await queue.count() == 0
    await rows.put("p", "r", {"n": 1})
    assert await rows.rows("p") == [{"n": 1}]
    etags = await Table(storage, "sasrows").write(
        [RowWrite("q", "r", b'{"PartitionKey":"q","RowKey":"r","data":"{}"}')]
    )
    assert len(etags) == 1
    await transport.close()


async def test_identity_is_used_when_the_address_names_no_key() -> None:
    # With a sandbox, the identity's token is made without Entra.
    transport = Transport("http://127.0.0.1:1")
    async with answering((200, {}, b'{"value": []}')) as server:
        storage = Storage(StorageAddress(table_url=server.url, queue_url=server.url), transport)
        assert await Table(storage, "jobs").query() == []
    await transport.close()
    ((method, path, headers, _),) = server.seen
    assert (method, path, headers["x-ms-version"]) == ("GET", "/jobs()", "2019-02-02")
    assert headers["authorization"].startswith("Bearer ")


async def test_pause_is_kept_when_storage_asks_for_one() -> None:
    transport = Transport("http://127.0.0.1:1")
    busy = {"Retry-After": "1", "x-ms-error-code": "ServerBusy"}
    async with answering((503, busy, b""), (201, {}, b"")) as server:
        storage = Storage(StorageAddress(table_url=server.url, queue_url=server.url), transport)
        began = time.monotonic()
        await Queues(storage, ("q",)).put("q", b"text")
    await transport.close()
    assert len(server.seen) == 2
    # As the host's trigger reads it.
    assert b"<MessageText>dGV4dA==</MessageText>" in server.seen[1][3]
    assert time.monotonic() - began >= 0.9
