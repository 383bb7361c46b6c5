"""Act two: a job trains, its values arrive live, the key is rotated, another job is replayed."""

import asyncio
from dataclasses import dataclass
from typing import Final

from dev.tools.demo import onboarding
from dev.tools.demo.api import MODEL, STEPS, FineTuning
from dev.tools.demo.cloud import Cloud, Json, StoryError, until
from dev.tools.demo.replay import Replay
from dev.tools.demo.rotation import Rotation
from dev.tools.demo.screen import Screen

_SECONDS_PER_STEP: Final = 0.3
_LONGEST_S: Final = 240.0
_ROTATE_AT, _HALF_AT, _DONE_AT = STEPS // 3, STEPS // 6, STEPS // 2
"""Steps of the training job at which something else happens."""


@dataclass(slots=True)
class Moment:
    """Where the training job stands."""

    status: str = ""
    step: int = 0
    published: int = 0
    relayed: int = 0
    lag_s: float | None = None


class Training:
    """The two jobs of the story. `job_ids` are the live one and the replayed one."""

    def __init__(
        self,
        cloud: Cloud,
        api: FineTuning,
        screen: Screen,
        *,
        replay: Replay,
        rotation: Rotation,
        own_wandb: bool,
    ) -> None:
        self._cloud = cloud
        self._api = api
        self._screen = screen
        self._replay = replay
        self._rotation = rotation
        self._own_wandb = own_wandb
        self._live = ""
        self._played = 0
        self.lags: list[float] = []
        """Lags in seconds that /api/status showed while the job trained."""

    @property
    def job_ids(self) -> list[str]:
        return [self._live, self._replay.job_id]

    async def start(self) -> None:
        """Create the live job through the SDK and show the replayed one as pending."""
        await self._cloud.control("PUT", "simulator", {"seconds_per_step": _SECONDS_PER_STEP})
        await until(self._api.may_call, "the role on the account did not spread", seconds=30)
        self._live = await self._api.start_job()
        self._screen.say(
            f"job {self._live} created with the openai SDK: {MODEL}, {STEPS} steps, "
            "training and validation file uploaded"
        )
        await self._play_on()
        self._screen.say(f"job {self._replay.job_id} is replayed: {self._replay.source}")

    async def watch(self) -> None:
        """Follow the live job to its end. Raises StoryError when it or the rotation fails."""
        rotating: asyncio.Task[None] | None = None
        with self._screen.training(STEPS) as bar:

            async def look() -> bool | None:
                nonlocal rotating
                now = await self._look()
                bar.show(now.step, now.published, now.relayed, now.lag_s)
                if now.lag_s is not None:
                    self.lags.append(now.lag_s)
                if self._played == 1 and now.step >= _HALF_AT:
                    await self._play_on()
                if self._played == 2 and now.step >= _DONE_AT:
                    await self._play_on()
                if rotating is None and now.step >= _ROTATE_AT:
                    rotating = asyncio.create_task(self._rotate())
                if rotating is not None and rotating.done():
                    await rotating
                if now.status in ("failed", "cancelled"):
                    raise StoryError(f"the training job ended as {now.status}")
                return True if now.status == "succeeded" else None

            try:
                await until(look, "the training job did not end", seconds=_LONGEST_S, every=0.5)
                if rotating is not None:
                    await rotating
            finally:
                if rotating is not None:
                    rotating.cancel()
        while self._played < len(self._replay.stages):
            await self._play_on()
        self._screen.good(f"job {self._live} succeeded")

    async def settle(self) -> list[Json]:
        """Wait until both runs have their end; return the jobs as /api/status shows them.

        Raises StoryError naming the job that has not.
        """
        last: Json = {}

        async def look() -> list[Json] | None:
            nonlocal last
            shown = {job["id"]: job for job in (await self._cloud.status())["jobs"]}
            for job_id in self.job_ids:
                last = shown.get(job_id) or {"id": job_id}
                if last.get("state") not in ("ending", "complete"):
                    return None
            return [shown[job_id] for job_id in self.job_ids]

        return await until(
            look,
            lambda: (
                f"the run of job {last['id']} has no end: relay state {last.get('state', 'none')}, "
                f"{last.get('error') or 'no error'} {last.get('remedy', '')}".rstrip()
            ),
            seconds=90,
        )

    async def _rotate(self) -> None:
        await self._rotation.play()
        if self._own_wandb and self._rotation.watches:
            await self._rotation.start_watch()

    async def _play_on(self) -> None:
        body = self._replay.stages[self._played]
        await self._cloud.put_job(onboarding.ACCOUNT, self._replay.job_id, **body)
        self._played += 1

    async def _look(self) -> Moment:
        status, published = await asyncio.gather(
            self._api.read_status(self._live), self._api.read_published(self._live)
        )
        now = Moment(
            status=status,
            step=max((step for step, _ in published), default=0),
            published=len(published),
        )
        shown = await self._cloud.shown_job(self._live)
        if shown is not None:
            now.relayed, now.lag_s = shown["values"], shown["lag_s"]
            if self._own_wandb and shown["run"]:
                # What is really there, not what the app says of itself.
                run = await self._cloud.run(shown["run"]) or {"history": []}
                now.relayed = sum(
                    not name.startswith("_") and name != "step"
                    for row in run["history"]
                    for name in row
                )
        return now
