"""Rule: the account's tags say which vault and secret are in use.

A tag that is there chose them, so that only a tag that is missing can be wrong.
"""

from finetune_wandb.accounts.state import State
from finetune_wandb.model.account import TAG_SECRET, TAG_VAULT
from finetune_wandb.model.causes import finding
from finetune_wandb.model.finding import Finding


def missing_tags(state: State) -> dict[str, str]:
    """Return the record's tags that the account lacks; empty while no key is in use."""
    wish = state.desired
    if wish.secret is None or not (state.key and state.key.record.version):
        return {}
    wanted = {TAG_VAULT: wish.secret.vault.url, TAG_SECRET: wish.secret.name}
    return {name: value for name, value in wanted.items() if not state.account.tag(name)}


def check_record(state: State) -> list[Finding]:
    """Return whether people and tools find on the account what is in use."""
    wish = state.desired
    if wish.secret is None or not (state.key and state.key.record.version):
        return []
    evidence = {
        "account_id": str(state.account.id),
        "vault": wish.secret.vault.host,
        "secret": wish.secret.name,
    }
    missing = missing_tags(state)
    if missing:
        return [finding("record_missing", **evidence, missing=", ".join(missing))]
    return [finding("record_current", **evidence)]
