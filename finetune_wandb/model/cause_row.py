"""The shape of a row of the catalogue of causes, and text that rows share."""

from finetune_wandb.model.finding import Severity

Row = tuple[str, Severity, bool, str, str]
"""Code, severity, whether it may pass by itself, meaning, remedy."""

OLD_IN_USE = " A version accepted earlier stays in use (warning); without one, blocked."
