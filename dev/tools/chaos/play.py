"""Plays a batch of runs on one stage: each run's own story, and the weather that hits them all."""

import asyncio
import random
import signal
import time
from dataclasses import dataclass, field

from dev.tools.chaos.plan import SPAN_S, Moment, Plan
from dev.tools.chaos.stage import Stage

_LOOK_EVERY_S = 0.4


@dataclass(slots=True)
class Played:
    """What a batch went through."""

    newest: dict[str, str] = field(default_factory=dict)
    """Each secret's newest version."""
    mended: int = 0
    """Secrets into which somebody had to put a new key, because none of theirs was of use."""
    weather: list[str] = field(default_factory=list)
    faults_hit: int = 0


async def play(stage: Stage, plans: list[Plan], seed: int) -> Played:
    """Play the runs side by side; when this returns no fault is left and one host is up."""
    played = Played()
    watch = asyncio.create_task(_keep_messages(stage))
    try:
        await asyncio.gather(
            *(_run(stage, plan, played) for plan in plans), _weather(stage, seed, played)
        )
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        stage.cut_storage(0)
    played.faults_hit += await stage.end_faults()
    await stage.end_second()
    await stage.until_host_is_up()
    return played


async def _run(stage: Stage, plan: Plan, played: Played) -> None:
    start = time.monotonic()
    # An event that a dying host does not take is delivered for half a minute: the story goes on.
    async with asyncio.TaskGroup() as notices:
        for moment in plan.moments:
            await asyncio.sleep(max(start + moment.at - time.monotonic(), 0))
            if moment.kind == "notice":
                notices.create_task(stage.notify(plan.account, moment.body["times"]))
            else:
                await _do(stage, plan, moment, played)


async def _do(stage: Stage, plan: Plan, moment: Moment, played: Played) -> None:
    body = dict(moment.body)
    match moment.kind:
        case "account":
            await stage.put_account(plan.account, tags={"wandb-secret-name": plan.secret})
        case "key":
            version = await stage.put_key(plan.secret, body["value"], body["state"])
            played.newest[plan.secret] = version
            if body["state"] == "active":
                stage.good_versions.setdefault(plan.secret, set()).add(version)
        case "revoke":
            await stage.control("PUT", "wandb/keys", {"key": body["value"], "state": "revoked"})
        case "job":
            await stage.put_job(plan.account, body.pop("id"), **body)
        case "fault":
            await stage.control("POST", "faults", body)
        case "calm":
            ended = await stage.control("DELETE", f"faults/{body['name']}")
            played.faults_hit += ended["hits"]
        case "again":
            await stage.send_again(plan.account, body["delay_s"])


async def _keep_messages(stage: Stage) -> None:
    while True:
        await stage.keep_messages()
        await asyncio.sleep(_LOOK_EVERY_S)


async def _weather(stage: Stage, seed: int, played: Played) -> None:
    """Kill hosts, start a second one, restart and cut storage, at moments drawn from the seed."""
    rng = random.Random(f"weather {seed}")
    start = time.monotonic()
    for at, what in sorted(_forecast(rng)):
        await asyncio.sleep(max(start + at - time.monotonic(), 0))
        played.weather.append(f"{at:.1f} s {what}")
        match what.split():
            case ["kill", number, "second"]:
                stage.kill(signal.Signals[number], second=True)
            case ["kill", number]:
                stage.kill(signal.Signals[number])
            case ["second-host", clock]:
                # A host that cannot come up under these faults is one that died young.
                await stage.begin_second(float(clock), rng.uniform(3, 12))
            case ["cut-storage", chance]:
                stage.cut_storage(float(chance))
            case ["restart-storage"]:
                await stage.stack.restart_azurite()
            case ["next-pass"]:
                await stage.next_pass()


def _forecast(rng: random.Random) -> list[tuple[float, str]]:
    found: list[tuple[float, str]] = []

    def add(what: str) -> None:
        found.append((rng.uniform(0.5, SPAN_S - 1), what))

    for _ in range(rng.choice((0, 1, 2, 3))):
        add(f"kill {rng.choice(('SIGKILL', 'SIGKILL', 'SIGTERM'))}")
    if rng.random() < 0.7:
        clock = rng.choice((0, 0, 0, 90, -90))
        at = rng.uniform(0, 3)
        found.append((at, f"second-host {clock}"))
        if rng.random() < 0.6:
            number = rng.choice(("SIGKILL", "SIGTERM"))
            found.append((at + rng.uniform(3, 6), f"kill {number} second"))
    if rng.random() < 0.4:
        add("restart-storage")
    if rng.random() < 0.6:
        at = rng.uniform(0, SPAN_S - 3)
        found += [(at, f"cut-storage {rng.choice((0.02, 0.1))}")]
        found += [(at + rng.uniform(0.5, 3), "cut-storage 0")]
    if rng.random() < 0.3:
        add("next-pass")
    return found
