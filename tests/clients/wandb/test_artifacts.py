"""Artifacts over W&B's API: what the server holds, against the official SDK, and what can fail."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from finetune_wandb.clients.transport import Transport
from finetune_wandb.clients.wandb.artifacts import Artifacts
from finetune_wandb.model.errors import AppError, DeniedError, MissingError, TemporaryError
from finetune_wandb.model.relay.artifact import Artifact, Copy, json_file, table_file
from finetune_wandb.model.relay.cursor import RunPath
from finetune_wandb.model.relay.ports import RunKey
from finetune_wandb.model.secret import Secret
from tests.dev.sandbox.wandb.wandb_fixture import WandbServer, wandb_server

VALUE = "wandb_v1_" + "q" * 77
KEY = RunKey("sandbox-team", Secret(VALUE))
COLUMNS = ("step", "model", "loss")
ROWS = ((5, "m:ckpt-5", 0.5), (10, "m:größe", None))


@pytest_asyncio.fixture
async def server() -> AsyncIterator[WandbServer]:
    async with wandb_server() as running:
        yield running


@pytest_asyncio.fixture
async def artifacts(server: WandbServer) -> AsyncIterator[Artifacts]:
    transport = Transport()
    yield Artifacts(transport, server.url)
    await transport.close()


async def run_in(server: WandbServer, name: str = "ftjob-1") -> RunPath:
    """Make a run as the relay makes it, with two rows and its end."""
    await server.upsert(name, config='{"_wandb":{"value":{"t":{"12":"relay"}}}}', tags=["mine"])
    rows = [f'{{"step":{n},"loss":0.5,"_step":{n},"_timestamp":{n}}}' for n in range(2)]
    await server.rows(name, 0, *rows)
    status, _ = await server.stream(name, {"files": {}, "complete": True, "exitcode": 0})
    assert status == 200
    return RunPath("sandbox-team", "proj", name)


def data_set(name: str = "dataset-file-1", rows: int = 1, **more: Any) -> Artifact:
    facts = {"id": "file-1", "rows": rows}
    files = (json_file("facts.json", facts),)
    return Artifact(name=name, type="dataset", files=files, metadata=facts, used=True, **more)


def checkpoints(folder: Path) -> Artifact:
    table = table_file("checkpoints", COLUMNS, ROWS, folder / "table")
    return Artifact(name="checkpoints-1", type="checkpoints", files=(table,), metadata={})


async def fault(server: WandbServer, path: str, action: Any, times: int = 1) -> None:
    body = {"service": "wandb", "path_contains": path, "times": times, "action": action}
    status, _ = await server.call("POST", "/_sandbox/faults", body, key=None)
    assert status < 300


async def test_run_stays_as_it_ended_while_artifacts_are_logged(
    server: WandbServer, artifacts: Artifacts, tmp_path: Path
) -> None:
    run = await run_in(server)
    before = await server.shown("ftjob-1")
    await fault(server, "graphql", {"delay_s": 0.05}, times=30)

    async def log() -> None:
        for artifact in (data_set(), checkpoints(tmp_path)):
            await artifacts.log(run, artifact, key=KEY)

    work = asyncio.create_task(log())
    looks = 0
    while not work.done():
        now = await server.shown("ftjob-1")
        for name in ("state", "exitcode", "posts", "config", "summary", "tags", "history"):
            assert now[name] == before[name], name
        looks += 1
        await asyncio.sleep(0.01)
    await work
    assert looks > 5, "it was over before anyone looked"
    shown = await server.shown("ftjob-1")
    assert (shown["state"], shown["posts"]) == ("finished", before["posts"])
    assert [one["name"] for one in shown["artifacts_used"]] == ["dataset-file-1:v0"]
    assert [one["name"] for one in shown["artifacts_logged"]] == ["checkpoints-1:v0"]


async def test_sdk_finds_the_same_version_and_reads_it_back(
    server: WandbServer, artifacts: Artifacts, tmp_path: Path
) -> None:
    run = await run_in(server)
    given = checkpoints(tmp_path)
    await artifacts.log(run, data_set(), key=KEY)
    await artifacts.log(run, given, key=KEY)
    code = f"""
    run = start("ftjob-sdk")
    used = wandb.Artifact("dataset-file-1", "dataset", metadata={{"id": "file-1", "rows": 1}})
    with used.new_file("facts.json") as target:
        target.write({data_set().files[0].content.decode()!r})
    run.use_artifact(used)
    made = wandb.Artifact("checkpoints-1", "checkpoints")
    made.add_file({str(tmp_path / "table")!r}, name="checkpoints.table.json")
    run.log_artifact(made).wait()
    run.finish()
    found = wandb.Api().artifact("sandbox-team/proj/checkpoints-1:latest")
    table = found.get("checkpoints")
    folder = wandb.Api().artifact("sandbox-team/proj/dataset-file-1:v0").download()
    result = [found.version, table.columns, table.data, open(folder + "/facts.json").read()]
    """
    version, columns, rows, facts = await server.sdk(tmp_path, code, VALUE)
    assert (version, columns, rows) == ("v0", list(COLUMNS), [list(row) for row in ROWS])
    assert json.loads(facts) == {"id": "file-1", "rows": 1}
    for kind in ("used", "logged"):
        ours, theirs = [
            [(one["name"], one["digest"], one["files"]) for one in shown[f"artifacts_{kind}"]]
            for shown in (await server.shown("ftjob-1"), await server.shown("ftjob-sdk"))
        ]
        assert ours == theirs


async def test_nothing_new_is_made_when_it_is_logged_again(
    server: WandbServer, artifacts: Artifacts
) -> None:
    run = await run_in(server)
    fetched: list[int] = []

    async def fetch() -> None:
        fetched.append(1)

    for _ in range(2):
        await artifacts.log(run, data_set(fetch=fetch), key=KEY)
    assert fetched == [1]
    (used,) = (await server.shown("ftjob-1"))["artifacts_used"]
    assert used["name"] == "dataset-file-1:v0"
    await artifacts.log(run, data_set(rows=2), key=KEY)
    names = [one["name"] for one in (await server.shown("ftjob-1"))["artifacts_used"]]
    assert names == ["dataset-file-1:v0", "dataset-file-1:v1"]


async def test_a_data_set_is_one_version_when_many_jobs_log_it_at_once(
    server: WandbServer, artifacts: Artifacts
) -> None:
    runs = [await run_in(server, f"ftjob-{n}") for n in range(6)]
    await asyncio.gather(*(artifacts.log(run, data_set(), key=KEY) for run in runs))
    for run in runs:
        (used,) = (await server.shown(run.run_id))["artifacts_used"]
        assert used["name"] == "dataset-file-1:v0"


async def test_another_instance_takes_the_version_that_is_there(
    server: WandbServer, artifacts: Artifacts
) -> None:
    first, second = [await run_in(server, name) for name in ("ftjob-1", "ftjob-2")]
    transport = Transport()
    try:
        await artifacts.log(first, data_set(), key=KEY)
        await Artifacts(transport, server.url).log(second, data_set(), key=KEY)
    finally:
        await transport.close()
    (used,) = (await server.shown("ftjob-2"))["artifacts_used"]
    assert used["name"] == "dataset-file-1:v0"


async def test_large_file_is_sent_from_the_disk(
    server: WandbServer, artifacts: Artifacts, tmp_path: Path
) -> None:
    run = await run_in(server)
    content = bytes(range(256)) * 12_000
    (tmp_path / "large").write_bytes(content)
    copy = Copy()
    copy.take(content)
    files = (copy.file("content/größe 1.jsonl", tmp_path / "large"),)
    made = Artifact(name="results-1", type="result", files=files, metadata={})
    # The address and the answer are lost once each: the file is read from its start again.
    await fault(server, "/storage/", {"status": 503, "headers": {}, "body": {}})
    await artifacts.log(run, made, key=KEY)
    blobs = [blob.data or b"" for blob in server_blobs(server)]
    assert hashlib.sha256(content).digest() in {hashlib.sha256(one).digest() for one in blobs}


def server_blobs(server: WandbServer) -> list[Any]:
    from dev.sandbox.wandb.store import hub

    return list(hub(server.world).blobs.by_token.values())


class Watched(Transport):
    """Remembers where each request went, and with which headers."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[str, Any]] = []

    def session(self) -> Any:
        return self

    def request(self, method: str, url: Any, **more: Any) -> Any:
        self.sent.append((url.path, more["headers"]))
        return super().session().request(method, url, **more)


async def test_key_goes_to_graphql_alone(server: WandbServer, tmp_path: Path) -> None:
    run = await run_in(server)
    transport = Watched()
    try:
        await Artifacts(transport, server.url).log(run, checkpoints(tmp_path), key=KEY)
    finally:
        await transport.close()
    with_key = {path for path, headers in transport.sent if "Authorization" in headers}
    assert with_key == {"/graphql"}
    uploads = [headers for path, headers in transport.sent if path not in with_key]
    assert [list(headers) for headers in uploads] == [["Content-MD5"], []]


@pytest.mark.parametrize(
    ("action", "kind"),
    [
        ({"status": 503, "headers": {}, "body": {}}, TemporaryError),
        ({"status": 200, "headers": {}, "body": {"data": {}}}, TemporaryError),
        (
            {"status": 200, "headers": {}, "body": {"data": {"createArtifact": None}}},
            TemporaryError,
        ),
        ({"status": 401, "headers": {}, "body": {}}, DeniedError),
        ({"drop": "before"}, TemporaryError),
    ],
    ids=["503", "empty", "null", "401", "dropped"],
)
async def test_error_is_ours_and_without_the_key_when_wandb_does_not_take_it(
    server: WandbServer, artifacts: Artifacts, action: Any, kind: type[AppError]
) -> None:
    run = await run_in(server)
    await fault(server, "graphql", action, times=50)
    with pytest.raises(kind) as caught:
        await artifacts.log(run, data_set(), key=KEY)
    assert VALUE not in repr(caught.value) + str(caught.value)


async def test_run_that_is_gone_is_named_as_the_cause(
    server: WandbServer, artifacts: Artifacts, tmp_path: Path
) -> None:
    await run_in(server)
    gone = RunPath("sandbox-team", "proj", "ftjob-gone")
    with pytest.raises(MissingError):
        await artifacts.log(gone, checkpoints(tmp_path), key=KEY)


async def test_version_is_whole_when_its_commit_was_lost(
    server: WandbServer, artifacts: Artifacts, tmp_path: Path
) -> None:
    run = await run_in(server)
    await fault(server, "/storage/", {"status": 500, "headers": {}, "body": {}}, times=4)
    with pytest.raises(TemporaryError):
        await artifacts.log(run, checkpoints(tmp_path), key=KEY)
    assert (await server.shown("ftjob-1"))["artifacts_logged"] == []
    await artifacts.log(run, checkpoints(tmp_path), key=KEY)
    (made,) = (await server.shown("ftjob-1"))["artifacts_logged"]
    assert (made["name"], made["files"]) == ("checkpoints-1:v0", ["checkpoints.table.json"])
