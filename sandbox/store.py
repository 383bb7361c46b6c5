"""The sandbox's world: everything the stand-ins remember, in memory, reset by one call."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sandbox.faults import Fault

RequestKey = tuple[str, str, str, int]


@dataclass
class World:
    """Shared state. Each service keeps its own state object in `parts` under its name."""

    base_url: str
    wandb_url: str
    host_url: str
    requests: Counter[RequestKey] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    parts: dict[str, Any] = field(default_factory=dict)

    def part[T](self, name: str, make: Callable[[], T]) -> T:
        """Return the service's state, made afresh after each reset.

        Hold the world, not the returned object: a reset replaces it.
        """
        if name not in self.parts:
            self.parts[name] = make()
        part: T = self.parts[name]
        return part

    def fault_for(self, service: str, method: str, path: str) -> Fault | None:
        """Return the first fault that this request meets, counting it down."""
        for fault in self.faults:
            if fault.hits(service, method, path):
                return fault
        return None

    def reset(self) -> None:
        """Forget everything: accounts, vaults, jobs, runs, faults, the request log."""
        self.requests.clear()
        self.faults.clear()
        self.parts.clear()
