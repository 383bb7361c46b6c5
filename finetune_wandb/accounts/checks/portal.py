"""Rule: Azure's own integration was set in the portal. Nobody but a person can do that.

No public API sets it, and none tells: it counts as done when a job carries a W&B integration
or when somebody says so by tag. It never makes an account unhealthy.
"""

from urllib.parse import quote

from finetune_wandb.accounts.state import State
from finetune_wandb.model.account import TAG_PORTAL
from finetune_wandb.model.causes import finding
from finetune_wandb.model.finding import Finding

_PORTAL = "https://ai.azure.com/resource/overview?wsid="
"""Classic portal's page of one resource; the feature is not in the new portal."""


def check_portal(state: State) -> list[Finding]:
    """Return what to enter by hand, or that it was done."""
    wish = state.desired
    if state.native_seen:
        return [finding("portal_done", seen="a job carries a W&B integration")]
    if state.account.tag(TAG_PORTAL).lower() == "done":
        return [finding("portal_done", seen=f"tag {TAG_PORTAL}")]
    if wish.secret is None:
        return []
    link = _PORTAL + quote(str(state.account.id), safe="/")
    return [
        finding(
            "portal_update", link=link, vault_url=wish.secret.vault.url, secret=wish.secret.name
        )
    ]
