"""What handlers act through, as fakes: only the parts that a plain handler function touches."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from finetune_wandb.flows.events import RefusedEvents
from finetune_wandb.model.accounts.report import AccountReport
from finetune_wandb.model.ids import parse_account_id
from finetune_wandb.model.secret import secret_at
from finetune_wandb.model.settings import Settings, read_settings
from finetune_wandb.model.telemetry import NoTelemetry
from tests.fakes import FakeAccountTable, FakeAudit, FakeProblems, FakeQueue, World

SUBSCRIPTION = "11111111-1111-4111-8111-111111111111"
FOREIGN = "22222222-2222-4222-8222-222222222222"
OWN = "99999999-9999-4999-8999-999999999999"
NOW = 1_764_000_000.0
VAULT = "kv-main.vault.azure.net"
ACCOUNT = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-one/providers"
    "/Microsoft.CognitiveServices/accounts/aoai-one"
)


def settings(**more: str) -> Settings:
    given = {"AZURE_SUBSCRIPTION_IDS": SUBSCRIPTION, "KEY_VAULT_URL": f"https://{VAULT}"}
    return read_settings(given | more)


@dataclass
class FakeApp:
    """Stands for `App` in functions that use no more of it."""

    settings: Settings = field(default_factory=settings)
    problems: FakeProblems = field(default_factory=FakeProblems)
    world: World = field(default_factory=World)
    queues: FakeQueue = field(default_factory=FakeQueue)
    now: float = NOW
    audit: FakeAudit = field(default_factory=FakeAudit)
    telemetry: NoTelemetry = field(default_factory=NoTelemetry)

    def __post_init__(self) -> None:
        self.accounts = FakeAccountTable(self.world)
        self.reconcile = self.world.ports()
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
        entry = AccountReport(
            id=parse_account_id(account),
            checked_at=datetime.fromtimestamp(NOW, UTC),
            mode="full",
            findings=(),
            **given,
        )
        self.world.entries[entry.key] = entry
