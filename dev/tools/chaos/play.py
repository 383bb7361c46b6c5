"""Plays a batch of runs on one stage: each run's own story, and the weather that hits them all."""

import asyncio
import random
import signal
import time
from dataclasses import dataclass, field

from dev.tools.chaos.jobs import shown_by
from dev.tools.chaos.live import Feed, Seen, Watch
from dev.tools.chaos.plan import SPAN_S, Moment, Plan
from dev.tools.chaos.stage import PROJECT, Stage

_LOOK_EVERY_S = 0.4


@dataclass(slots=True)
class Played:
    """What a batch went through."""

    newest: dict[str, str] = field(default_factory=dict)
    """Each secret's newest version."""
    new_keys: int = 0
    """Secrets that needed a new key by hand, because W&B accepted none of theirs."""
    weather: list[str] = field(default_factory=list)
    faults_hit: int = 0
    live: Seen = field(default_factory=Seen)


async def play(stage: Stage, plans: list[Plan], seed: int) -> Played:
    """Play the runs side by side; when this returns no fault is left and one host is up."""
    played = Played()
    watch = Watch(stage, plans)
    keeping = asyncio.create_task(_keep_messages(stage))
    try:
        await asyncio.gather(
            *(_run(stage, plan, played, watch) for plan in plans),
            _weather(stage, seed, played),
            watch.run(),
        )
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        stage.cut_storage(0)
    if not any("second-host" in line and not line.endswith(" 0") for line in played.weather):
        # By a clock that is wrong, a later look may be an earlier one.
        played.live = watch.seen
    hit = await stage.end_faults()
    played.faults_hit += hit
    await stage.end_second()
    await stage.until_host_is_up()
    return played


async def _run(stage: Stage, plan: Plan, played: Played, watch: Watch) -> None:
    start = time.monotonic()
    # An event that a dying host does not take is delivered for half a minute: the story goes on.
    async with asyncio.TaskGroup() as notices:
        for moment in plan.moments:
            await asyncio.sleep(max(start + moment.at - time.monotonic(), 0))
            if moment.kind == "notice":
                notices.create_task(stage.notify(plan.account, moment.body["times"]))
            elif moment.kind == "opt":
                # Not waited for: the fault that refuses it may end with a later moment.
                notices.create_task(stage.opt(plan.account, moment.body["mode"]))
            else:
                await _do(stage, plan, moment, played, watch)


async def _do(stage: Stage, plan: Plan, moment: Moment, played: Played, watch: Watch) -> None:
    body = dict(moment.body)
    match moment.kind:
        case "account":
            if group := body.get("group"):
                stage.move_to(plan.account, group)
            await stage.put_account(plan.account, tags={"wandb-secret-name": plan.secret})
        case "key":
            version = await stage.put_key(plan.secret, body["value"], body["state"])
            played.newest[plan.secret] = version
            if body["state"] == "active":
                stage.good_versions.setdefault(plan.secret, set()).add(version)
        case "revoke":
            await stage.control("PUT", "wandb/keys", {"key": body["value"], "state": "revoked"})
        case "job":
            feed = watch.feeds.setdefault(body["id"], Feed())
            feed.is_over = body["job"]["status"] in ("succeeded", "failed", "cancelled")
            await stage.put_job(plan.account, body.pop("id"), **body)
            feed.shown.append((time.monotonic(), shown_by(body)))
        case "foreign":
            await stage.put_foreign_run(body["id"])
        case "delete":
            await stage.delete_account(plan.account)
        case "delete job":
            await stage.control("DELETE", f"accounts/{plan.account}/jobs/{body['id']}")
        case "delete run":
            if await stage.run(f"{PROJECT}/{body['id']}") is not None:
                await stage.control("DELETE", f"wandb/runs/{PROJECT}/{body['id']}")
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
            case ["kill-busy"]:
                # All messages in work die together.
                slow = {"service": "wandb", "path_contains": "/file_stream", "name": "busy"}
                await stage.control("POST", "faults", {**slow, "action": {"delay_s": 2}})
                await asyncio.sleep(1.2)
                stage.kill(signal.SIGKILL)
                await stage.control("DELETE", "faults/busy")
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
    if rng.random() < 0.3:
        found.append((rng.uniform(2, SPAN_S - 3), "kill-busy"))
    return found
