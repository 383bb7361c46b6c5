"""The fine-tuning API as the relay sees it: the client over HTTP, and the fake, do the same."""

import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from finetune_wandb.clients.azure.jobs import Jobs
from finetune_wandb.clients.transport import Transport
from finetune_wandb.model.errors import MissingError
from finetune_wandb.model.relay.ports import JobsPort
from tests.dev.sandbox.stage import Client
from tests.fakes import FakeJobs, relay_account

pytestmark = pytest.mark.sandbox_only

ACCOUNT = relay_account("aoai-one")
SCOPE = "https://cognitiveservices.azure.com/.default"
Put = Callable[..., Awaitable[None]]


def job(number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"ftjob-{number}", "status": "running", "created_at": 1000 + number, **more}


def event(number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"ev-{number}", "created_at": 1000 + number, "message": f"m{number}", **more}


@pytest.fixture(params=["fake", "client"])
async def api(
    request: pytest.FixtureRequest, sandbox: Client, transport: Transport
) -> AsyncIterator[tuple[JobsPort, Put]]:
    """The port, and a way to set what is answered; listings are served in the order given."""
    if request.param == "fake":
        fake = FakeJobs()

        async def put_fake(body: dict[str, Any], page_size: int = 100, **more: Any) -> None:
            if (text := more.pop("result_csv", None)) is not None:
                encoded = more.pop("result_encoding", "plain") == "base64"
                content = base64.b64encode(text.encode()) if encoded else text.encode()
                fake.files["file-r"] = content
            fake.page_size = page_size
            fake.put(body, **more)

        yield fake, put_fake
        return

    async def put(body: dict[str, Any], page_size: int = 100, **more: Any) -> None:
        wanted = {"job": body, "order": "given", "page_size": page_size, **more}
        await sandbox.control("PUT", f"accounts/aoai-one/jobs/{body['id']}", wanted)

    yield Jobs(transport, SCOPE), put


async def everything(list_page: Any, limit: int = 100) -> list[Any]:
    found: list[Any] = []
    after = None
    while True:
        page = await list_page(after, limit)
        found += page.items
        if not page.has_more:
            return found
        after = page.items[-1]["id"]


async def test_jobs_come_newest_first_when_they_are_listed(api: tuple[JobsPort, Put]) -> None:
    port, put = api
    for number in range(5):
        await put(job(number))
    found = await everything(lambda after, limit: port.list_jobs(ACCOUNT, after, limit), 2)
    assert [one["id"] for one in found] == [f"ftjob-{n}" for n in (4, 3, 2, 1, 0)]
    page = await port.list_jobs(ACCOUNT, None, 2)
    assert (len(page.items), page.has_more) == (2, True)


@pytest.mark.parametrize("size", [1, 2, 100])
async def test_every_event_comes_when_pages_are_followed(
    api: tuple[JobsPort, Put], size: int
) -> None:
    port, put = api
    events = [event(3), event(1), event(1), {"message": "nameless"}, event(2), event(3)]
    await put(job(1), events=events, page_size=size)
    found = await everything(
        lambda after, limit: port.list_events(ACCOUNT, "ftjob-1", after, limit)
    )
    assert {one.get("id") for one in found} == {"ev-1", "ev-2", "ev-3", None}


async def test_checkpoints_come_as_they_are_when_they_are_listed(
    api: tuple[JobsPort, Put],
) -> None:
    port, put = api
    checkpoints = [{"id": f"cp-{n}", "step_number": n, "metrics": {"x": None}} for n in (3, 2, 1)]
    await put(job(1), checkpoints=checkpoints)
    page = await port.list_checkpoints(ACCOUNT, "ftjob-1", None, 100)
    assert (page.items, page.has_more) == (checkpoints, False)


async def test_job_is_whole_when_it_is_read(api: tuple[JobsPort, Put]) -> None:
    port, put = api
    body = job(1, result_files=None, hyperparameters={"n_epochs": -1}, odd="é")
    await put(body)
    found = await port.read_job(ACCOUNT, "ftjob-1")
    assert found | body == found


@pytest.mark.parametrize("encoding", ["plain", "base64"])
async def test_result_file_is_a_stream_of_its_bytes_when_it_is_read(
    api: tuple[JobsPort, Put], encoding: str
) -> None:
    port, put = api
    text = "step,train_loss\n" + "".join(f"{n},{n}.5\n" for n in range(50_000))
    body = job(1, result_files=["file-r"])
    await put(body, result_csv=text, result_encoding=encoding)
    chunks = [chunk async for chunk in port.read_file(ACCOUNT, "file-r")]
    content = b"".join(chunks)
    assert len(chunks) > 1
    assert (content if encoding == "plain" else base64.b64decode(content)) == text.encode()
    assert (await port.describe_file(ACCOUNT, "file-r"))["bytes"] == len(content)


async def test_missing_is_said_when_job_event_or_file_is_not_there(
    api: tuple[JobsPort, Put],
) -> None:
    port, put = api
    await put(job(1), events=[event(1)])
    with pytest.raises(MissingError):
        await port.read_job(ACCOUNT, "ftjob-9")
    with pytest.raises(MissingError):
        await port.list_events(ACCOUNT, "ftjob-9", None, 10)
    with pytest.raises(MissingError):
        async for _ in port.read_file(ACCOUNT, "file-9"):
            pass


async def test_job_is_cancelled_when_it_is_asked_for(api: tuple[JobsPort, Put]) -> None:
    port, put = api
    await put(job(1))
    await port.cancel_job(ACCOUNT, "ftjob-1")
    assert (await port.read_job(ACCOUNT, "ftjob-1"))["status"] == "cancelled"
    await port.cancel_job(ACCOUNT, "ftjob-1")  # over already is as good
