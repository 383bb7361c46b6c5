"""The floor: the least that a relay with the same promises does, written straight down.

The recorded requests are sent again. `relay` also takes each message from a queue, parses every
answer, makes the rows, and keeps them in one table transaction before they are sent and one after;
nothing is checked, nothing is tried again. `bare` sends the requests and nothing else.

What is sent has the recorded bytes, so that W&B stays as it was; the rows made here are counted.

Run: python -m dev.bench.floor FILE; FILE is JSON with `requests`, `tables`, `queue` (URLs with
a signature). A question is `{"how": "relay" | "bare", "anew": bool}`; `anew` forgets which events
are known.
"""

import asyncio
import base64
import csv
import json
import re
import sys
import time
import zlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import batched
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson
from yarl import URL

from dev.tools.lines import answers, questions

Rows = dict[int, dict[str, float]]
"""Values by step."""

_AT_ONCE: Final = 32
_JOBS: Final = 20
"""Jobs of one message, as in the app."""
_JOB: Final = re.compile(r"ftjob-[a-z0-9-]+")
_ACCOUNT: Final = re.compile(r"/_host/([a-z0-9-]+)\.")
_MESSAGE: Final = re.compile(
    rb"<MessageId>(.+?)</MessageId>.*?<PopReceipt>(.+?)</PopReceipt>.*?"
    rb"<MessageText>(.+?)</MessageText>",
    re.DOTALL,
)
_NAMES: Final = {"train_accuracy": "train_mean_token_accuracy"}
"""How result files call what events call otherwise."""
_LONG: Final = 8000
_CHUNK: Final = 60_000
"""A binary column holds 64 KiB, and a transaction 4 MiB: longer bodies are compressed."""


@dataclass(slots=True)
class Job:
    """One job's requests, and where its rows stand."""

    id: str
    account: str
    reads: list[dict[str, Any]] = field(default_factory=list)
    writes: list[dict[str, Any]] = field(default_factory=list)
    last_step: int = 0
    rows: int = 0


def add_events(rows: Rows, answer: bytes, last_step: int) -> None:
    """Add the events, listed newest first, that come after the last known step."""
    for event in orjson.loads(answer)["data"]:
        values = event["data"]
        step = values.pop("step")
        if step <= last_step:
            return
        del values["total_steps"]
        rows[step] = values


def add_checkpoints(rows: Rows, answer: bytes) -> None:
    for checkpoint in orjson.loads(answer)["data"]:
        values = checkpoint["metrics"]
        rows.setdefault(values.pop("step"), {}).update(values)


def add_result(rows: Rows, answer: bytes) -> None:
    """Add what a result file has and the events had not."""
    lines = csv.reader(answer.decode().splitlines())
    names = [_NAMES.get(name, name) for name in next(lines)]
    for line in lines:
        row = rows.setdefault(int(line[0]), {})
        for name, text in zip(names[1:], line[1:], strict=True):
            if text and name not in row:
                row[name] = float(text)


def body_of(job: Job, rows: Rows) -> bytes:
    """Return the request that brings these rows to the job's run, and count them as sent."""
    now = time.time()
    lines = [
        orjson.dumps(
            {"step": step, **rows[step], "_step": place, "_timestamp": now, "_runtime": step}
        ).decode()
        for place, step in enumerate(sorted(rows), job.rows)
    ]
    files: dict[str, Any] = {"wandb-history.jsonl": {"offset": job.rows, "content": lines}}
    if rows:
        job.last_step = max(rows)
        summary = orjson.dumps({"step": job.last_step, **rows[job.last_step]}).decode()
        files["wandb-summary.json"] = {"offset": 0, "content": [summary]}
    job.rows += len(lines)
    return orjson.dumps({"files": files})


def transaction(table: str, jobs: Iterable[Job], outboxes: Iterable[bytes]) -> bytes:
    """Return the body that writes these jobs' rows together."""
    parts = [b"--batch_b\r\nContent-Type: multipart/mixed; boundary=changeset_c\r\n\r\n"]
    for job, outbox in zip(jobs, outboxes, strict=True):
        row: dict[str, Any] = {"rows": job.rows, "last_step": job.last_step}
        if len(outbox) <= _LONG:
            row["outbox"] = outbox.decode()
        else:
            data = zlib.compress(outbox, 1)
            for start in range(0, len(data), _CHUNK):
                part = data[start : start + _CHUNK]
                row[f"outbox{start}"] = base64.b64encode(part).decode()
                row[f"outbox{start}@odata.type"] = "Edm.Binary"
        content = orjson.dumps(row)
        # A merge of an empty outbox leaves what else the row has.
        verb = "PUT" if outbox else "PATCH"
        keys = f"PartitionKey='{job.account}',RowKey='{job.id}'"
        parts += (
            (
                "--changeset_c\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
                f"{verb} {table}({keys}) HTTP/1.1\r\nContent-Type: application/json\r\n"
                "Accept: application/json;odata=minimalmetadata\r\nDataServiceVersion: 3.0\r\n"
                f"Content-Length: {len(content)}\r\n\r\n"
            ).encode(),
            content,
            b"\r\n",
        )
    parts.append(b"--changeset_c--\r\n--batch_b--\r\n")
    return b"".join(parts)


class Least:
    """The recorded requests, ready to be sent again."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        requests: list[dict[str, Any]],
        *,
        tables: str = "",
        queue: str = "",
    ) -> None:
        self._session = session
        self._tables = tables.partition("?")
        self._queue = queue.partition("?")
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._requests = requests
        self._lists: list[dict[str, Any]] = []
        self.jobs: dict[str, Job] = {}
        self.failed = 0
        self.values = 0
        for item in requests:
            found = _JOB.search(item["url"]) or _JOB.search(item["body"])
            is_read = item["service"] == "openai"
            account = _ACCOUNT.search(item["url"])
            if found is None:
                self._lists.append(item)
            else:
                # The first request of a job is a read, which names the account.
                name = account[1] if account else ""
                job = self.jobs.setdefault(found[0], Job(found[0], name))
                (job.reads if is_read else job.writes).append(item)
            item["data"] = item.pop("body").encode() or None
            item["url"] = URL(item["url"], encoded=True)

    async def bare(self) -> None:
        """Send every request once, in the recorded order."""
        waiting = iter(self._requests)

        async def worker() -> None:
            for item in waiting:
                await self._send(item)

        await asyncio.gather(*(worker() for _ in range(_AT_ONCE)))

    async def prepare(self) -> None:
        """Make table and queue."""
        if self._tables[0]:
            await self._store("PUT", self._queue, "")
            await self._store("POST", self._tables, "/Tables", b'{"TableName":"floor"}', _JSON)

    async def put_messages(self) -> int:
        """Put a message for every 20 jobs of an account on the queue; return how many."""
        accounts: dict[str, list[str]] = {}
        for job in self.jobs.values():
            accounts.setdefault(job.account, []).append(job.id)
        messages = [
            part for jobs in accounts.values() for part in batched(jobs, _JOBS, strict=False)
        ]
        for part in messages:
            text = base64.b64encode(json.dumps(part).encode()).decode()
            xml = f"<QueueMessage><MessageText>{text}</MessageText></QueueMessage>"
            await self._store("POST", self._queue, "/messages", xml.encode())
        return len(messages)

    async def relay(self, messages: int) -> None:
        """List every account, then take the messages and relay their jobs."""
        for answer in await asyncio.gather(*(self._send(item) for item in self._lists)):
            orjson.loads(answer)
        taken: list[Awaitable[None]] = []
        while len(taken) < messages:
            answer = await self._store("GET", self._queue, "/messages", numofmessages="32")
            taken += [self._message(*found) for found in _MESSAGE.findall(answer)]
        await asyncio.gather(*taken)

    async def _message(self, identifier: bytes, receipt: bytes, text: bytes) -> None:
        jobs = [self.jobs[name] for name in orjson.loads(base64.b64decode(text))]
        bodies = await asyncio.gather(*(self._read(job) for job in jobs))
        await self._keep(jobs, bodies)
        await asyncio.gather(*(self._write(job) for job in jobs))
        await self._keep(jobs, [b""] * len(jobs))
        path = f"/messages/{identifier.decode()}"
        await self._store("DELETE", self._queue, path, popreceipt=receipt.decode())

    async def _read(self, job: Job) -> bytes:
        rows: Rows = {}
        for item in job.reads:
            answer = await self._send(item)
            kind = item["url"].path.rsplit("/", 1)[-1]
            if kind == "events":
                add_events(rows, answer, job.last_step)
            elif kind == "checkpoints":
                add_checkpoints(rows, answer)
            else:
                add_result(rows, answer)
        self.values += sum(map(len, rows.values()))
        return body_of(job, rows)

    async def _write(self, job: Job) -> None:
        for item in job.writes:
            await self._send(item)

    async def _keep(self, jobs: list[Job], outboxes: list[bytes]) -> None:
        table = f"{self._tables[0]}/floor"
        await self._store("POST", self._tables, "/$batch", transaction(table, jobs, outboxes))

    async def _send(self, item: dict[str, Any]) -> bytes:
        return await self._ask(item["method"], item["url"], item["headers"], item["data"])

    async def _store(
        self,
        method: str,
        service: tuple[str, str, str],
        path: str,
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
        **query: str,
    ) -> bytes:
        url, _, signature = service
        more = "".join(f"&{name}={URL.build(path=value).raw_path}" for name, value in query.items())
        address = URL(f"{url}{path}?{signature}{more}", encoded=True)
        return await self._ask(method, address, headers or _BATCH, data)

    async def _ask(self, method: str, url: URL, headers: dict[str, str], data: Any) -> bytes:
        async with (
            self._turns,
            self._session.request(method, url, headers=headers, data=data) as answer,
        ):
            content = await answer.read()
            # A transaction is accepted as a whole, and says in its body what it refused.
            if answer.status >= 300 or b"HTTP/1.1 4" in content:
                self.failed += 1
                print(method, url.path, answer.status, content[:1000])
            return content


_JSON: Final = {
    "x-ms-version": "2019-02-02",
    "DataServiceVersion": "3.0",
    "Accept": "application/json;odata=nometadata",
    "Content-Type": "application/json",
}
_BATCH: Final = _JSON | {"Content-Type": "multipart/mixed; boundary=batch_b"}


async def timed(least: Least, work: Callable[[], Awaitable[None]]) -> dict[str, Any]:
    """Do the work; return wall and CPU seconds, values made, and requests that failed."""
    least.failed = least.values = 0
    wall, cpu = time.perf_counter(), time.process_time()
    await work()
    return {
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
        "failed": least.failed,
        "values": least.values,
    }


async def main(config: dict[str, Any]) -> None:
    """Answer questions until there are no more."""
    connector = aiohttp.TCPConnector(limit=0)
    with answers() as stream:
        async with aiohttp.ClientSession(connector=connector) as session:
            least = Least(session, **config)
            await least.prepare()
            asked = questions()
            while question := await asyncio.to_thread(next, asked, None):
                if question["how"] == "bare":
                    result = await timed(least, least.bare)
                else:
                    messages = await least.put_messages()
                    for job in least.jobs.values() if question["anew"] else ():
                        job.last_step = job.rows = 0
                    result = await timed(least, partial(least.relay, messages))
                print(json.dumps(result), file=stream)


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
