"""Decides which steps may run: the gate between a plan and the world."""

from finetune_wandb.model.plan import Step
from finetune_wandb.model.settings import ApplyMode


def reason_to_skip(step: Step, mode: ApplyMode) -> str:
    """Return why a step must not run in this mode, empty when it may."""
    if mode == "observe":
        return "only observing: nothing is changed"
    if mode == "create_only" and not step.creates:
        return "create_only: this would change what is there already"
    return ""
