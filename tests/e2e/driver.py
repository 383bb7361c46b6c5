"""Drives the whole product through its outside, as the end-to-end tests need it.

Azure is changed and W&B is looked at through the sandbox, the product is asked over HTTP. What
a run must hold is worked out in dev/tools/demo/values.py, which shares no code with the relay.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from dev.tools.demo.cloud import KEY, PROJECT, SUBSCRIPTION, Cloud, Json, until
from dev.tools.demo.values import Comparison, Published, compare
from dev.tools.local_stack import Stack
from tests.e2e.bodies import job_object, message_event, metric_events, published_by
from tests.e2e.secrets_scan import Witness

__all__ = [
    "KEY",
    "PROJECT",
    "SUBSCRIPTION",
    "Driver",
    "job_object",
    "message_event",
    "metric_events",
    "published_by",
    "running",
    "until",
]

ENDED = ("ending", "complete")
"""Relay states in which a run has its end."""

_numbers = itertools.count(1)


class Driver(Cloud):
    """A stack under test. Names made by `new_name` let tests share it."""

    def __init__(self, http: aiohttp.ClientSession, stack: Stack, witness: Witness) -> None:
        super().__init__(
            http,
            sandbox_url=stack.sandbox_url,
            host_url=stack.host_url,
            group="rg-e2e",
        )
        self.stack = stack
        self.witness = witness
        """Looks for keys in whatever the product writes, sends and answers."""

    def new_name(self, prefix: str) -> str:
        return f"{prefix}-{next(_numbers)}"

    async def kill_host(self) -> None:
        """Kill the host with SIGKILL and wait until it is up again."""
        starts = self.stack.host_starts
        self.stack.kill_host()

        async def look() -> bool | None:
            return True if self.stack.host_starts > starts else None

        await until(look, "the host did not come back", every=0.05)

    def host_log(self) -> str:
        return (self.stack.run_dir / "host.log").read_text(errors="replace")

    # Onboarding

    async def key_accepted(self) -> Json:
        """Wait until the app has proved the key in the vault; return it as shown."""

        async def look() -> Json | None:
            key = await self.shown_key()
            return key if key and key["version"] else None

        return await until(look, "no key was accepted", seconds=30)

    async def onboard(self, name: str = "", **more: Any) -> str:
        """Create an account and wait until it is healthy; return its name.

        `more` is what the account's body has besides, such as `tags` or `identity`.
        """
        name = name or self.new_name("aoai")
        await self.put_account(name, **more)
        await self.healthy(name)
        return name

    async def healthy(self, name: str, seconds: float = 30) -> Json:
        """Wait until /api/status calls an account healthy; return its entry."""
        last: Json | None = None

        async def look() -> Json | None:
            nonlocal last
            last = await self.shown_account(name)
            return last if last and last["healthy"] else None

        return await until(look, lambda: f"{name} is not healthy: {last}", seconds=seconds)

    async def checked_again(self, name: str, before: Json, seconds: float = 20) -> Json:
        """Wait for a look at an account that is newer than `before`; return its entry."""

        async def look() -> Json | None:
            entry = await self.shown_account(name)
            return entry if entry and entry["checked_at"] > before["checked_at"] else None

        return await until(look, f"{name} was not looked at again", seconds=seconds)

    # Events

    async def deliver(self, function: str, *events: Any) -> list[int]:
        """Deliver events as they are; return the host's answer to each."""
        answers = await self.control("POST", "events", {"function": function, "events": events})
        return [answer["status"] for answer in answers]

    async def delivered(self, seconds: float = 20) -> None:
        """Wait until every event that the sandbox raised has been taken."""

        async def look() -> bool | None:
            state = await self.control("GET", "deliveries")
            return True if state["pending"] == 0 else None

        await until(look, "events are still on their way", seconds=seconds)

    # What was asked of Azure and W&B

    async def writes(self) -> list[str]:
        """Return the requests that would change Azure, as "METHOD path"."""
        return [
            f"{item['method']} {item['path']}"
            for service in ("arm", "vault")
            for item in await self.requests(service)
            if item["method"] not in ("GET", "HEAD")
        ]

    async def keys_used(self) -> dict[str, int]:
        """Return the requests for rows by key, as the sandbox names keys."""
        found: dict[str, int] = {}
        for item in await self.control("GET", "wandb/requests-by-key"):
            if item["path"].endswith("/file_stream"):
                mark = item["key_sha256"]
                found[mark] = found.get(mark, 0) + item["count"]
        return found

    # Jobs and their runs

    async def job_in(self, job_id: str, states: Iterable[str], seconds: float = 30) -> Json:
        """Wait until the relay has a job in one of these states; return it as shown."""
        wanted, last = tuple(states), None

        async def look() -> Json | None:
            nonlocal last
            last = await self.shown_job(job_id)
            return last if last and last["state"] in wanted else None

        return await until(look, lambda: f"{job_id} is not {wanted}: {last}", seconds=seconds)

    async def job_with(self, job_id: str, values: int, seconds: float = 30) -> Json:
        """Wait until so many values of a job are relayed; return it as shown."""
        last: Json | None = None

        async def look() -> Json | None:
            nonlocal last
            last = await self.shown_job(job_id)
            return last if last and last["values"] >= values else None

        return await until(
            look, lambda: f"{job_id} has not {values} values: {last}", seconds=seconds
        )

    async def run_of(self, job_id: str) -> Json:
        """Return what W&B holds of a job's run. Fails when there is no run."""
        shown = await self.shown_job(job_id)
        assert shown is not None, f"no job {job_id} in the status"
        run = await self.run(shown["run"] or f"{PROJECT}/{job_id}")
        assert run is not None, f"no run for {shown}"
        return run

    async def compared(self, job_id: str, expected: Published, seconds: float = 10) -> Comparison:
        """Hold a job's run against what was published, as soon as it is exact or time is up.

        A value counts as relayed once it is in the outbox: its request may still be on its way.
        """
        end = time.monotonic() + seconds
        while True:
            found = compare(expected, (await self.run_of(job_id))["history"])
            if found.exact or time.monotonic() > end:
                return found
            await asyncio.sleep(0.1)


@asynccontextmanager
async def running(
    run_dir: Path, *, host_env: Mapping[str, str] | None = None, lease: float | None = None
) -> AsyncIterator[Driver]:
    """Start a stack with a vault that holds a good key, relaying every second.

    Without artifacts: each would cost seconds of CPU for the import of the wandb SDK.
    """
    stack = Stack(
        run_dir=run_dir,
        isolated=True,
        env={"RELAY_SCHEDULE": "* * * * * *"},
        host_env={"ARTIFACTS": "off", **(host_env or {})},
        lease=lease,
        progress=lambda _: None,
    )
    async with stack:
        timeout = aiohttp.ClientTimeout(total=30)
        witness = Witness(stack)
        async with (
            aiohttp.ClientSession(timeout=timeout, trace_configs=[witness.trace()]) as http,
            witness.watching(),
        ):
            driver = Driver(http, stack, witness)
            await driver.put_vault()
            await driver.put_secret(KEY)
            yield driver
            await witness.take_all()
        assert not witness.found, witness.found
