"""What the settings decide about relaying, as the pure half needs it."""

from dataclasses import dataclass, field

from finetune_wandb.model.setting_parsers import Prices
from finetune_wandb.model.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayOptions:
    """Defaults are those of a test that wants none of the extras."""

    skip_native: bool = True
    alerts: frozenset[str] = frozenset()
    prices: Prices = field(default_factory=dict)
    cost_alert_usd: float = 0.0
    stall_factor: float = 10.0
    cancel_on_stop: bool = False
    artifacts: bool = False
    best_checkpoint_metric: str = ""


def options_of(settings: Settings) -> RelayOptions:
    return RelayOptions(
        skip_native=settings.native_jobs == "skip",
        alerts=frozenset(settings.alerts),
        prices=settings.prices,
        cost_alert_usd=settings.cost_alert_usd,
        stall_factor=settings.stall_factor,
        cancel_on_stop=settings.on_wandb_stop == "cancel" and settings.apply_mode == "full",
        artifacts=settings.artifacts == "on",
        best_checkpoint_metric=settings.best_checkpoint_metric,
    )
