"""The training simulator: gives every job made through the API its clock.

Decides when jobs are looked at; what they then publish is decided by each training.
"""

import asyncio
import random
import time

from dev.sandbox.openai.job_request import JobRequest
from dev.sandbox.openai.job_store import AccountJobs, StoredJob
from dev.sandbox.openai.simulator_settings import SimulatorSettings
from dev.sandbox.openai.training import Training
from dev.sandbox.store import World

_LONGEST_NAP = 0.05
"""Seconds; a job that is created or resumed meanwhile is late by no more than this."""


class Simulator:
    """The trainings under way, by the object that stores their job."""

    def __init__(self) -> None:
        self.settings = SimulatorSettings()
        self._trainings: dict[int, Training] = {}
        self._started = 0

    def start(self, account: AccountJobs, request: JobRequest) -> StoredJob:
        """Create a job and let it run. Its first events are there when this returns."""
        self._started += 1
        rng = random.Random(f"{self.settings.seed}/{self._started}")
        training = Training(account, request, rng, lambda: self.settings, time.time())
        self._trainings[id(training.job)] = training
        return training.job

    def training_of(self, job: StoredJob) -> Training | None:
        """Return what plays this job, or None when nothing does any more."""
        return self._trainings.get(id(job))

    def release(self, job: StoredJob) -> None:
        """Let a job stand as it is: the control path or a delete took it over."""
        self._trainings.pop(id(job), None)

    def advance(self, now: float) -> float:
        """Play all that is due by `now`; return when the next part is due, in unix seconds."""
        soonest = now + _LONGEST_NAP
        ended = []
        for key, training in self._trainings.items():
            training.advance(now)
            if training.ended:
                ended.append(key)
            elif not training.asleep:
                soonest = min(soonest, training.due)
        for key in ended:
            del self._trainings[key]
        return soonest


def simulator(world: World) -> Simulator:
    return world.part("simulator", Simulator)


async def simulate(world: World) -> None:
    """Play the jobs of all accounts, until cancelled."""
    while True:
        now = time.time()
        soonest = simulator(world).advance(now)
        # A floor keeps a very fast job from starving the requests that watch it.
        await asyncio.sleep(max(0.002, min(_LONGEST_NAP, soonest - now)))
