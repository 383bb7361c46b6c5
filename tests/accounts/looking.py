"""One look at the newest version of the secret that every test's vault has."""

from finetune_wandb.keys.in_use import prove_newest
from finetune_wandb.model.accounts.key import KeyReport
from finetune_wandb.model.settings import Settings
from tests.fakes import NOW, PLACE, World, settings


def usable(report: KeyReport) -> bool:
    """Return whether a key is in use and no finding blocks it."""
    return bool(report.record.version) and not any(
        item.severity == "blocked" for item in report.findings
    )


async def look(azure: World, using: Settings | None = None, **more: object) -> KeyReport:
    return await prove_newest(
        PLACE,
        ports=azure.ports(),
        settings=using or settings(),
        now=NOW,
        trigger="a test",
        **more,  # type: ignore[arg-type]
    )
