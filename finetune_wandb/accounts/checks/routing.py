"""Rule: the W&B team and project are names W&B takes, and the key in use belongs to the team."""

from finetune_wandb.accounts.state import State
from finetune_wandb.model.causes import finding
from finetune_wandb.model.finding import Finding


def check_routing(state: State) -> list[Finding]:
    """Return whether it is known where this account's runs go, and that they may go there."""
    wish = state.desired
    # A malformed value is not repeated: it is somebody's free text.
    found = [finding(cause) for cause in (wish.entity_cause, wish.project_cause) if cause]
    owner = state.key.record.owner if state.key else None
    if found or owner is None:
        return found
    entity = wish.entity or owner.entity
    if not owner.may_write(entity):
        return [
            finding("entity_not_writable", wanted=entity, key_belongs_to=", ".join(owner.entities))
        ]
    return [finding("routing_ok", entity=entity, project=wish.project)]
