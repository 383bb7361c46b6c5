"""The full stack as chaos needs it: storage behind wires, a second host, hosts that die.

One stage serves many runs, side by side and one batch after the other.
"""

import asyncio
import base64
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from dev.devhost import config
from dev.tools.chaos.plan import Json
from dev.tools.chaos.wire import Wire
from dev.tools.demo.cloud import ACCOUNTS_API, PROJECT, Cloud, StoryError, until
from dev.tools.local_stack import Stack
from dev.tools.ports import free
from dev.tools.processes import Process

FOREIGN_ROWS: Final = ('{"step":1,"train_loss":9.5}', '{"step":2,"theirs":1.5}')
TICK_S: Final = 3.0
QUEUES: Final = ("reconcile-accounts", "relay-jobs", "backfill-jobs")
_ENV: Final = {
    # Often, and yet no more work than two hosts on a busy machine get done: a story has three
    # or four ticks. The drift timer runs only when it is asked to, as "the next pass".
    "RELAY_SCHEDULE": f"*/{TICK_S:.0f} * * * * *",
    "DRIFT_SCHEDULE": "0 0 0 1 1 *",
    # tests/clients and tests/relay have the faults of artifacts.
    "ARTIFACTS": "off",
}


class Stage(Cloud):
    """Sandbox, Azurite, one host that is restarted when it dies, and sometimes a second one."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        stack: Stack,
        wires: list[Wire],
        lease_s: float,
    ) -> None:
        super().__init__(
            http,
            sandbox_url=stack.sandbox_url,
            host_url=stack.host_url,
            group="rg-chaos",
        )
        self.stack = stack
        self.wires = wires
        self.lease_s = lease_s
        self._groups: dict[str, str] = {}
        self._opting: dict[str, asyncio.Lock] = {}
        """One change of mode after the other."""
        self._second: Process | None = None
        self._queues = QueueServiceClient.from_connection_string(
            stack.storage_connection, retry_total=1
        )
        self.kept: list[tuple[str, str]] = []
        """(queue, raw message) that were seen, to be sent again."""
        self.good_versions: dict[str, set[str]] = {}
        """The versions of each secret whose key W&B took when it was stored, in any batch."""

    async def close(self) -> None:
        """Stop what the stage itself started."""
        await self.end_second()
        await self._queues.close()

    def account_id(self, name: str) -> str:
        """Return the ARM id that the account has now."""
        return self.first_id(name).replace(self.group, self._groups.get(name, self.group))

    def first_id(self, name: str) -> str:
        """Return the ARM id that the account had before it was moved."""
        return super().account_id(name)

    # Hosts

    def kill(self, number: signal.Signals, *, second: bool = False) -> None:
        """Send a signal to a host; the first one is started again by itself."""
        if second and self._second is not None:
            self._second.signal(number)
        elif not second:
            self.stack.kill_host(number)

    async def begin_second(self, clock_s: float, clock_for_s: float) -> None:
        """Start another host on the same storage; its clock is `clock_s` ahead for a while."""
        await self.end_second()
        skew = {"CHAOS_CLOCK_S": str(clock_s), "CHAOS_CLOCK_FOR_S": str(clock_for_s)}
        module = "dev.tools.chaos.skewed_host" if clock_s else "dev.devhost"
        self._second = self.stack.new_host("second-host", free().host, env=skew, module=module)
        await self._second.start(60)

    async def end_second(self) -> None:
        """Stop the second host in good order, if it runs."""
        if self._second is not None:
            await self._second.stop(13)
            self._second = None

    async def next_pass(self) -> None:
        """Have every account and key looked at, as the drift timer does."""
        await self.app("POST", "/admin/functions/drift_timer", {})

    # Storage

    def cut_storage(self, chance: float) -> None:
        """Abort this share of the connections that carry a storage request; 0 ends it."""
        for wire in self.wires:
            wire.cut = chance

    async def keep_messages(self) -> None:
        """Look at what is on the queues without taking it, and remember some of it."""
        for queue in QUEUES:
            try:
                client = self._client(queue)
                for message in await client.peek_messages(max_messages=8):
                    self.kept.append((queue, message.content))
            except AzureError:
                continue  # storage is being restarted, or the queue is not there yet
        del self.kept[:-400]

    async def send_again(self, about: str, delay_s: float) -> None:
        """Send remembered messages that name `about` once more: duplicates, late and reordered."""
        # Messages are base64 on the queue; what they say is searched, never changed.
        found = [pair for pair in self.kept if about in _decoded(pair[1])]
        for queue, raw in found[-3:][::-1]:
            try:
                await self._client(queue).send_message(raw, visibility_timeout=int(delay_s) or None)
            except AzureError:
                continue

    async def waiting(self) -> dict[str, int]:
        """Return how many messages, up to 32, can be taken from each queue and poison queue.

        Those that a killed host had come back when its lease ends.
        """
        found: dict[str, int] = {}
        for queue in (*QUEUES, *(f"{name}-poison" for name in QUEUES)):
            try:
                found[queue] = len(await self._client(queue).peek_messages(max_messages=32))
            except ResourceNotFoundError:
                found[queue] = 0
        return found

    async def poison(self) -> list[str]:
        """Return what lies in the poison queues, decoded."""
        found: list[str] = []
        for queue in QUEUES:
            try:
                messages = await self._client(f"{queue}-poison").peek_messages(max_messages=32)
            except ResourceNotFoundError:
                continue
            found += [_decoded(message.content) for message in messages]
        return found

    async def take_up_poison(self) -> None:
        """Ask the app to put what was set aside back on its queue, as an operator does."""
        text = base64.b64encode(b'{"kind":"requeue"}').decode()
        await self._client("reconcile-accounts").send_message(text)

    def _client(self, queue: str) -> QueueClient:
        return self._queues.get_queue_client(queue)

    # Azure and W&B

    async def put_key(self, secret: str, value: str, state: str) -> str:
        """Make W&B know a key in this state, store it as the secret's newest version."""
        await self.control("PUT", "wandb/keys", {"key": value, "state": state})
        body = {"value": value, "expires": _in_days(180)}
        answer = await self.control("PUT", f"vaults/{self.vault}/secrets/{secret}", body)
        return str(answer["version"])

    async def put_foreign_run(self, run_id: str) -> None:
        """Have W&B hold a run of this id that another tool wrote."""
        entity, project = PROJECT.split("/")
        wanted = {"entityName": entity, "modelName": project, "name": run_id}
        query = (
            "mutation M($input: UpsertBucketInput!) { upsertBucket(input: $input) { inserted } }"
        )
        await self._post_to_wandb("graphql", {"query": query, "variables": {"input": wanted}})
        files = {"wandb-history.jsonl": {"offset": 0, "content": list(FOREIGN_ROWS)}}
        await self._post_to_wandb(f"files/{PROJECT}/{run_id}/file_stream", {"files": files})

    async def _post_to_wandb(self, path: str, body: Json) -> None:
        """Post until W&B takes it: faults hit other tools too."""
        key = base64.b64encode(b"api:wandb_v1_" + b"f" * 77).decode()
        headers = {"Authorization": f"Basic {key}"}

        async def look() -> bool | None:
            url = f"{self.stack.wandb_url}/{path}"
            try:
                async with self.http.post(url, json=body, headers=headers) as answer:
                    return answer.status == 200 or None
            except aiohttp.ClientError:
                return None

        await until(look, f"W&B does not take {path}")

    def move_to(self, account: str, group: str) -> None:
        """From now on the account is in this resource group."""
        self._groups[account] = group

    async def delete_account(self, account: str) -> None:
        await self.arm("DELETE", self.account_id(account), ACCOUNTS_API)

    async def opt(self, account: str, mode: str) -> None:
        """Set the tag by which people take an account in or out, and leave its other tags."""

        async def look() -> bool | None:
            try:
                tags = (await self.read_account(account)).get("tags") or {}
                if tags.get("wandb-integration") == mode:
                    return True
                body = {"tags": {**tags, "wandb-integration": mode}}
                await self.arm("PATCH", self.account_id(account), ACCOUNTS_API, body)
            except (StoryError, aiohttp.ClientError, ValueError):
                return None  # a fault
            return None

        async with self._opting.setdefault(account, asyncio.Lock()):
            await until(look, f"{account} does not take its tag")

    async def notify(self, account: str, times: int) -> None:
        """Deliver the same write event of an account so many times."""
        event = self.account_written(self.account_id(account))
        body = {"function": "account_event", "events": [event] * times}
        await self.control("POST", "events", body)

    async def end_faults(self) -> int:
        """Take every fault away and return how often faults struck."""
        hits = sum(int(fault["hits"]) for fault in await self.control("GET", "faults"))
        await self.control("DELETE", "faults")
        return hits

    async def until_host_is_up(self) -> None:
        await self.stack.wait_host()
        await self.status()


@asynccontextmanager
async def open_stage(
    run_dir: Path, *, slots: int, seed: int, lease_s: float
) -> AsyncIterator[Stage]:
    """Start a stage with a vault, on which so many runs have a secret of their own.

    `lease_s` is after how many seconds the messages of a killed host come back.
    """
    rng = random.Random(seed)
    wires = [Wire(rng) for _ in _SERVICES]
    connection = config.azurite_connection(str(_ANY_PORT))
    for place, wire in enumerate(wires):
        # The hosts reach storage through the wires, the stage itself does not.
        straight = f"127.0.0.1:{_ANY_PORT + place}/"
        connection = connection.replace(straight, f"127.0.0.1:{await wire.open()}/")
    secrets = [f"wandb-key-{slot:02d}" for slot in range(slots)]
    env = {
        **_ENV,
        "ALLOWED_SECRETS": ",".join(["wandb-api-key", *secrets]),
        "AzureWebJobsStorage": connection,
    }
    stack = Stack(
        run_dir=run_dir,
        isolated=True,
        in_memory=False,
        env=env,
        lease=lease_s,
        progress=lambda _: None,
    )
    for place, wire in enumerate(wires):
        wire.target = stack.ports.azurite + place
    timeout = aiohttp.ClientTimeout(total=60)
    try:
        async with stack, aiohttp.ClientSession(timeout=timeout) as http:
            stage = Stage(http, stack, wires, lease_s)
            try:
                await stage.put_vault()
                await stage.put_key("wandb-api-key", "wandb_v1_" + "d" * 77, "active")
                yield stage
            finally:
                await stage.close()
    finally:
        for wire in wires:
            await wire.close()


_SERVICES: Final = ("Blob", "Queue", "Table")
_ANY_PORT: Final = 10_000


def _decoded(raw: str) -> str:
    return base64.b64decode(raw).decode("utf-8", "replace")


def _in_days(days: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + days * 86_400))
