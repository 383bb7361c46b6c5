"""Queue functions over Azurite: delivery, limits, retries, poison, leases, outages."""

import asyncio
import base64
import json
import signal
from datetime import timedelta
from pathlib import Path
from shutil import copytree
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import ResourceNotFoundError

if TYPE_CHECKING:
    from dev.tools.processes import Process
    from tests.dev.devhost.conftest import RunningHost, StartHost, Work

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]


def encoded(**order: Any) -> str:
    return base64.b64encode(json.dumps(order).encode()).decode()


def names(host: "RunningHost", function: str = "on_message") -> list[str]:
    return [fact["name"] for fact in host.facts(function)]


async def test_message_is_deleted_when_function_succeeds(
    queue_host: "RunningHost", work: "Work"
) -> None:
    await work.put(encoded(name="ä"))
    await queue_host.eventually(lambda: names(queue_host, "on_message_end") == ["ä"])
    assert queue_host.facts("on_message")[0]["inserted"]
    await until_empty(work)
    assert names(queue_host) == ["ä"]


async def test_message_is_taken_within_a_second_when_queue_was_idle(
    queue_host: "RunningHost", work: "Work"
) -> None:
    await asyncio.sleep(3)  # until polling has slowed down
    clock = asyncio.get_running_loop().time
    sent = clock()
    await work.put(encoded(name="late"))
    await queue_host.eventually(lambda: names(queue_host))
    assert clock() - sent < 1.6


async def test_output_is_picked_up_at_once_when_function_enqueues(
    queue_host: "RunningHost",
) -> None:
    await asyncio.sleep(3)
    orders = [{"name": "one"}, {"name": "two"}]
    clock = asyncio.get_running_loop().time
    sent = clock()
    async with queue_host.http.post(f"{queue_host.url}/api/enqueue", json=orders) as answer:
        assert answer.status == 202
    await queue_host.eventually(lambda: sorted(names(queue_host)) == ["one", "two"])
    assert clock() - sent < 0.8


async def test_messages_run_side_by_side_up_to_the_limit_when_many(
    queue_host: "RunningHost", work: "Work"
) -> None:
    for number in range(14):
        await work.put(encoded(name=str(number), takes=0.3))
    await queue_host.eventually(lambda: len(names(queue_host, "on_message_end")) == 14, 30)
    changes = sorted(
        [(fact["at"], 1) for fact in queue_host.facts("on_message")]
        + [(fact["at"], -1) for fact in queue_host.facts("on_message_end")]
    )
    running = [sum(change for _, change in changes[: n + 1]) for n in range(len(changes))]
    assert 2 < max(running) <= 4 + 2  # batchSize + newBatchThreshold


@pytest.mark.parametrize(
    ("raw", "attempts"),
    [
        pytest.param(encoded(name="bad", fail=True), [1, 2], id="function fails"),
        pytest.param("{not base64}", [], id="undecodable"),
    ],
)
async def test_message_goes_to_poison_queue_when_it_keeps_failing(
    queue_host: "RunningHost", work: "Work", raw: str, attempts: list[int]
) -> None:
    await work.put(raw)
    await queue_host.eventually(
        lambda: "-poison" in queue_host.log() or "decoding" in queue_host.log()
    )
    await until_empty(work)
    poison = [message async for message in work.poison.receive_messages()]
    assert [message.content for message in poison] == [raw]
    lasts = poison[0].expires_on - poison[0].inserted_on
    assert lasts == timedelta(days=7)
    words = f"MaxDequeueCount of 2. Moving message to queue '{work.name}-poison'."
    assert (words if attempts else "Message decoding has failed!") in queue_host.log()
    assert [fact["dequeue_count"] for fact in queue_host.facts("on_message")] == attempts


async def test_message_is_taken_when_its_base64_has_line_ends(
    queue_host: "RunningHost", work: "Work"
) -> None:
    raw = encoded(name="wrapped")
    await work.put(f"{raw[:8]}\r\n {raw[8:]}\n")
    await queue_host.eventually(lambda: names(queue_host) == ["wrapped"])


async def test_queue_is_waited_for_and_not_made_when_it_is_missing(
    queue_host: "RunningHost", work: "Work"
) -> None:
    await work.queue.delete_queue()
    await asyncio.sleep(1.5)
    with pytest.raises(ResourceNotFoundError):
        await work.length(work.queue)
    assert "storage" not in queue_host.log()
    await work.queue.create_queue()
    await work.put(encoded(name="after"))
    await queue_host.eventually(lambda: names(queue_host) == ["after"])


async def test_lease_is_renewed_when_function_outlasts_it(
    queue_host: "RunningHost", work: "Work"
) -> None:
    await work.put(encoded(name="long", takes=3.2))  # the lease is two seconds
    await queue_host.eventually(lambda: names(queue_host, "on_message_end"))
    await until_empty(work)
    assert names(queue_host) == ["long"]


async def test_message_comes_back_when_host_is_killed(
    queue_host: "RunningHost", work: "Work"
) -> None:
    await work.put(encoded(name="interrupted", takes=2))
    await queue_host.eventually(lambda: names(queue_host))
    queue_host.process.signal(signal.SIGKILL)
    await queue_host.process.wait()
    assert names(queue_host, "on_message_end") == []
    await queue_host.process.start(30)
    await queue_host.eventually(lambda: names(queue_host, "on_message_end"))
    assert [fact["dequeue_count"] for fact in queue_host.facts("on_message")] == [1, 2]


async def test_running_message_is_finished_when_host_is_stopped(
    queue_host: "RunningHost", work: "Work"
) -> None:
    await work.put(encoded(name="last", takes=1.5))
    await queue_host.eventually(lambda: names(queue_host))
    assert await queue_host.stop() == 0
    assert names(queue_host, "on_message_end") == ["last"]
    await until_empty(work)


async def test_work_goes_on_when_storage_was_away(
    queue_host: "RunningHost", work: "Work", storage: tuple[int, "Process"]
) -> None:
    azurite = storage[1]
    await azurite.stop(grace=2)
    await queue_host.eventually(lambda: "storage" in queue_host.log())
    await azurite.start(30)  # empty: it keeps nothing
    await work.queue.create_queue()
    await queue_host.eventually(lambda: "storage is back" in queue_host.log())
    await work.put(encoded(name="after"))
    await queue_host.eventually(lambda: names(queue_host) == ["after"])


async def test_plain_text_arrives_when_encoding_is_none(
    start_host: "StartHost", storage: tuple[int, "Process"], work: "Work", tmp_path: Path
) -> None:
    app = copytree(Path(__file__).with_name("sample_app"), tmp_path / "plain_app")
    config = json.loads((app / "host.json").read_text())
    config["extensions"]["queues"]["messageEncoding"] = "none"
    (app / "host.json").write_text(json.dumps(config))
    host = await start_host(app=app, AZURITE_PORT=str(storage[0]), SAMPLE_QUEUE=work.name)
    await work.put('{"name": "plain"}')
    await host.eventually(lambda: names(host) == ["plain"])


async def until_empty(work: "Work") -> None:
    async with asyncio.timeout(10):
        while True:
            if await work.length(work.queue) == 0:
                return
            await asyncio.sleep(0.05)
