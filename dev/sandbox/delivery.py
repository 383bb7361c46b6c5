"""Delivery of events to the Functions host: at least once, concurrent, retried until taken.

Decides when to try again and when to give up; what an event says is not read here, except
that CloudEvents travel as a single object and all else in an array of one.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any

import aiohttp
import orjson

from dev.sandbox.store import World

_ANSWER_TIMEOUT_S = 30.0
"""How long the host may take to answer one delivery, as in Azure."""

_GIVE_UP_S = 600.0
"""How long a delivery is retried. Azure: a day; nothing on a laptop waits that long."""

_FINAL = {400, 413}
"""Answers that Azure never retries for endpoints in Azure."""

_MAX_OPEN = 64


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one function, raised in one generation of the world."""

    function: str
    event: Any
    generation: int


@dataclass
class Ledger:
    """What became of deliveries since the last reset."""

    pending: int = 0
    delivered: Counter[str] = field(default_factory=Counter)
    attempts: int = 0
    dead_letters: list[dict[str, Any]] = field(default_factory=list)


def ledger(world: World) -> Ledger:
    return world.part("delivery", Ledger)


def as_json(world: World) -> dict[str, Any]:
    """Describe the state: pending, delivered by function, attempts, dead letters with reasons."""
    state = ledger(world)
    return {
        "pending": state.pending + world.outbox.qsize(),
        "delivered": dict(state.delivered),
        "attempts": state.attempts,
        "dead_letters": state.dead_letters,
    }


async def deliver(world: World) -> None:
    """Deliver whatever comes into the outbox, for ever; one stuck delivery holds up no other."""
    # A semaphore rather than the pool's own limit: waiting for the pool counts as timeout.
    turns = asyncio.Semaphore(_MAX_OPEN)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
        while True:
            delivery = await world.outbox.get()
            if delivery.generation == world.generation:
                ledger(world).pending += 1
                group.create_task(_until_taken(world, session, turns, delivery))


async def deliver_now(world: World, function: str, event: Any) -> dict[str, Any]:
    """Deliver one event as it is and return `{"status"}` of the first answer.

    Waits up to 30 s for the host to listen; then, or when it does not answer in time, the
    status is 0 with an `error`. What was not taken is retried in the background, except 400.
    """
    delivery = Delivery(function, event, world.generation)
    async with aiohttp.ClientSession() as session:
        status, error = await _post(world, session, delivery)
        waited = 0.0
        while status == 0 and error == "refused" and waited < _ANSWER_TIMEOUT_S:
            await asyncio.sleep(0.2)
            waited += 0.2
            status, error = await _post(world, session, delivery)
    if 200 <= status <= 204:
        ledger(world).delivered[function] += 1
    elif status in _FINAL:
        _dead_letter(world, delivery, f"status {status}")
    else:
        world.outbox.put_nowait(delivery)
    return {"status": status} if error is None else {"status": status, "error": error}


async def _until_taken(
    world: World, session: aiohttp.ClientSession, turns: asyncio.Semaphore, delivery: Delivery
) -> None:
    loop = asyncio.get_running_loop()
    give_up = loop.time() + _GIVE_UP_S
    # 5 s in the long run: a host that comes back is served at once, one that is gone costs little.
    for delay in chain((0.2, 0.5, 1.0, 2.0, 3.0), repeat(5.0)):
        async with turns:
            status, error = await _post(world, session, delivery)
        if delivery.generation != world.generation:
            return
        if 200 <= status <= 204:
            ledger(world).delivered[delivery.function] += 1
            break
        if status in _FINAL or loop.time() + delay > give_up:
            _dead_letter(world, delivery, error or f"status {status}")
            break
        await asyncio.sleep(delay)
        if delivery.generation != world.generation:
            return
    ledger(world).pending -= 1


async def _post(
    world: World, session: aiohttp.ClientSession, delivery: Delivery
) -> tuple[int, str | None]:
    """Try once. Returns (status, None), or (0, `refused`, `timeout` or `broken`)."""
    ledger(world).attempts += 1
    cloud = isinstance(delivery.event, dict) and "specversion" in delivery.event
    try:
        async with session.post(
            f"{world.host_url}/runtime/webhooks/eventgrid",
            params={"functionName": delivery.function, "code": world.host_key},
            data=orjson.dumps(delivery.event if cloud else [delivery.event]),
            headers={
                "aeg-event-type": "Notification",
                "Content-Type": "application/cloudevents+json; charset=utf-8"
                if cloud
                else "application/json; charset=utf-8",
            },
            timeout=aiohttp.ClientTimeout(total=_ANSWER_TIMEOUT_S),
            allow_redirects=False,
        ) as response:
            await response.read()
            return response.status, None
    except aiohttp.ClientConnectorError:
        return 0, "refused"
    except TimeoutError:
        return 0, "timeout"
    except (aiohttp.ClientError, ConnectionError):
        return 0, "broken"


def _dead_letter(world: World, delivery: Delivery, reason: str) -> None:
    ledger(world).dead_letters.append(
        {"function": delivery.function, "reason": reason, "event": delivery.event}
    )
