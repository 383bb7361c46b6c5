"""What handlers act through, as fakes: only the parts that a plain handler function touches."""

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from finetune_wandb.flows.events import RefusedEvents
from finetune_wandb.model.errors import MissingError, UnavailableError
from finetune_wandb.model.problem import Problem
from finetune_wandb.model.secret import secret_at
from finetune_wandb.model.settings import Settings, read_settings
from finetune_wandb.model.telemetry import NoTelemetry
from tests.fakes import FakeQueue

SUBSCRIPTION = "11111111-1111-4111-8111-111111111111"
FOREIGN = "22222222-2222-4222-8222-222222222222"
OWN = "99999999-9999-4999-8999-999999999999"
NOW = 1_764_000_000.0
VAULT = "kv-main.vault.azure.net"
ACCOUNT = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-one/providers"
    "/Microsoft.CognitiveServices/accounts/aoai-one"
)


class FakeProblems:
    """ProblemPort over a dictionary: the same problem again is counted."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str, str], int] = {}
        self.remedies: list[str] = []
        self.writes = 0
        self.fails = False

    async def note(self, problem: Problem) -> bool:
        await asyncio.sleep(0)
        if self.fails:
            raise UnavailableError("storage is away")
        self.writes += 1
        place = (str(problem.source), problem.subject, problem.cause)
        is_new = place not in self.known
        self.known[place] = self.known.get(place, 0) + problem.count
        self.remedies.append(problem.remedy)
        return is_new

    async def clear(self, problem: Problem) -> None:
        self.known.pop((str(problem.source), problem.subject, problem.cause), None)

    async def list_all(self) -> list[Problem]:
        return [Problem(source=a, subject=b, cause=c) for a, b, c in self.known]


class FakeAccounts:
    """AccountsPort over a list of entries."""

    def __init__(self) -> None:
        self.entries: list[Any] = []

    async def list_all(self) -> list[Any]:
        return self.entries


class NoVaults:
    """Vaults of which none can be read."""

    async def find(self, vault: Any) -> Any:
        raise MissingError("no such vault", subject=str(vault))


def settings(**more: str) -> Settings:
    given = {"AZURE_SUBSCRIPTION_IDS": SUBSCRIPTION, "KEY_VAULT_URL": f"https://{VAULT}"}
    return read_settings(given | more)


@dataclass
class FakeApp:
    """Stands for `App` in functions that use no more of it."""

    settings: Settings = field(default_factory=settings)
    problems: FakeProblems = field(default_factory=FakeProblems)
    accounts: FakeAccounts = field(default_factory=FakeAccounts)
    queues: FakeQueue = field(default_factory=FakeQueue)
    now: float = NOW
    telemetry: NoTelemetry = field(default_factory=NoTelemetry)
    reconcile: Any = field(default_factory=lambda: SimpleNamespace(vaults=NoVaults()))

    def __post_init__(self) -> None:
        self.refused_events = RefusedEvents(self.problems, self.clock, self._pass)

    def clock(self) -> float:
        return self.now

    async def _pass(self, seconds: float) -> None:
        self.now += seconds

    async def own_principal(self) -> str:
        return OWN

    @property
    def sent(self) -> list[dict[str, Any]]:
        return self.queues.sent

    def entry(self, account: str = ACCOUNT, vault: str = VAULT, **more: Any) -> None:
        secret = secret_at(vault, more.pop("name", "wandb-api-key")) if vault else None
        given = {"in_scope": True, "deleted": False, "secret": secret, **more}
        self.accounts.entries.append(SimpleNamespace(id=account, **given))
