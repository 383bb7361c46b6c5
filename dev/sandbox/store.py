"""The sandbox's world: everything the stand-ins remember, in memory, reset by one call."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dev.sandbox.faults import Fault

RequestKey = tuple[str, str, str, int]

DEFAULT_SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
DEFAULT_GROUP = "sandbox-rg"


@dataclass
class World:
    """Shared state. Each service keeps its own state object in `parts` under its name.

    `default_subscription` is where vaults go that a control call creates without saying where.
    `generation` counts resets, so that a delivery begun before a reset can tell that it is
    stale. `outbox` holds events on their way to the Functions host.
    """

    base_url: str
    wandb_url: str
    host_url: str
    host_key: str = "local-system-key"
    """Opens the host's Event Grid webhook where the host asks for keys."""
    default_subscription: str = DEFAULT_SUBSCRIPTION
    requests: Counter[RequestKey] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    parts: dict[str, Any] = field(default_factory=dict)
    generation: int = 0
    outbox: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)
    timers: set[asyncio.TimerHandle] = field(default_factory=set)

    def part[T](self, name: str, make: Callable[[], T]) -> T:
        """Return the service's state, made afresh after each reset.

        Hold the world, not the returned object: a reset replaces it.
        """
        if name not in self.parts:
            self.parts[name] = make()
        part: T = self.parts[name]
        return part

    def fault_for(self, service: str, method: str, path: str, host: str = "") -> Fault | None:
        """Return the first fault that this request meets, counting it down."""
        for fault in self.faults:
            if fault.hits(service, method, path, host):
                return fault
        return None

    def later(self, delay: float, action: Callable[[], None]) -> None:
        """Run the action after `delay` seconds, unless a reset comes in between."""

        def run() -> None:
            self.timers.discard(handle)
            action()

        handle = asyncio.get_running_loop().call_later(delay, run)
        self.timers.add(handle)

    def reset(self) -> None:
        """Forget everything: accounts, vaults, jobs, runs, settings, faults, events on their way."""
        self.generation += 1
        for handle in self.timers:
            handle.cancel()
        self.timers.clear()
        self.requests.clear()
        self.faults.clear()
        self.parts.clear()
        while not self.outbox.empty():
            self.outbox.get_nowait()
