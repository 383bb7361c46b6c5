"""How often a key that W&B refuses is looked at again because jobs wait for a better one.

Every message of every tick meets the refusal; one look serves them all.
"""

from typing import Final

from finetune_wandb.model.secret import SecretRef

_PAUSE_S: Final = 1.0


class RefusedKeys:
    """One per process. Mutable: when each key was last sent for."""

    def __init__(self) -> None:
        self._sent_at: dict[SecretRef, float] = {}

    def is_due(self, secret: SecretRef, now: float) -> bool:
        """Say whether to send for a look now, and take it for sent. `now` is in unix seconds."""
        if now - self._sent_at.get(secret, float("-inf")) < _PAUSE_S:
            return False
        self._sent_at[secret] = now
        return True
