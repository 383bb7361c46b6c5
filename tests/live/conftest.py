"""The live suite: fixtures that clean up, and a verdict for each point at the end."""

import uuid
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from finetune_wandb.clients.azure.vaults import KeyVault
from finetune_wandb.clients.transport import Transport
from finetune_wandb.model.ids import parse_vault_url
from finetune_wandb.model.secret import Secret, SecretRef
from tests.live.places_azure import Arm
from tests.live.places_wandb import Wandb
from tests.live.settings import Places, places

_VERDICTS: pytest.StashKey[dict[str, list[str]]] = pytest.StashKey()
COST = (
    "Cost: Azure bills none of these calls but the vault's (below a cent); W&B runs count against"
    " storage until they are deleted, which this suite does with its own."
)
Verdict = Callable[[str], None]


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_VERDICTS] = {}


@pytest.fixture(name="settings")
def _settings() -> Places:
    return places()


@pytest.fixture
def verdict(request: pytest.FixtureRequest) -> Verdict:
    """Say what was seen at a point; shown at the end whether or not the test holds."""
    seen = request.config.stash[_VERDICTS].setdefault(request.node.name, [])
    return seen.append


@pytest.fixture
async def transport(settings: Places) -> AsyncIterator[Transport]:
    made = Transport(settings.sandbox_url)
    yield made
    await made.close()


@pytest.fixture
async def arm(transport: Transport) -> Arm:
    return Arm(transport)


@pytest.fixture
async def key(transport: Transport, settings: Places) -> Secret:
    vault = KeyVault(transport)
    found = await vault.read_newest(SecretRef(parse_vault_url(settings.vault_url), settings.secret))
    return found.value


@pytest.fixture
async def wandb(transport: Transport, settings: Places, key: Secret) -> AsyncIterator[Wandb]:
    """Runs of the test project; those that a test makes are deleted after it."""
    made = Wandb(transport, settings.wandb_url, settings.entity, settings.project, key)
    yield made
    await made.delete_runs()


@pytest.fixture
def new_name() -> str:
    return f"live-{uuid.uuid4().hex[:12]}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome = yield
    if item.get_closest_marker("live") is None:
        return
    report = outcome.get_result()  # type: ignore[attr-defined]
    seen = item.config.stash[_VERDICTS]
    if report.skipped and isinstance(report.longrepr, tuple):
        seen.setdefault(item.name, []).append(report.longrepr[2].removeprefix("Skipped: "))
    elif report.when == "call":
        told = (item.function.__doc__ or "").startswith("Told")
        word = ("told" if told else "holds") if report.passed else "REFUTED"
        seen.setdefault(item.name, []).insert(0, word)
    elif report.failed:
        seen.setdefault(item.name, []).insert(0, f"could not be tried ({report.when})")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if not (verdicts := config.stash.get(_VERDICTS, {})):
        return
    terminalreporter.section("verdicts")
    for name, seen in verdicts.items():
        terminalreporter.write_line(f"{name}: {'; '.join(seen)}")
    terminalreporter.write_line(COST)
