"""Rules about the account itself: eligible, identity, routing, record and the portal."""

from urllib.parse import quote

from finetune_wandb.accounts.read import State
from finetune_wandb.model.accounts.account import BROKEN, TAG_PORTAL, TAG_SECRET, TAG_VAULT
from finetune_wandb.model.accounts.key import KeyOwner
from finetune_wandb.model.accounts.report import Finding
from finetune_wandb.model.causes import finding


def check_eligible(state: State) -> list[Finding]:
    """Return why the account is out of scope, or what prevents its integration."""
    account = state.account
    evidence = account.id.names | {"account_id": str(account.id), "kind": account.kind}
    if not state.desired.in_scope:
        return [finding(state.desired.scope_cause, **evidence)]
    found: list[Finding] = []
    if not account.settled:
        found.append(
            finding("operation_under_way", **evidence, provisioning=account.provisioning_state)
        )
    elif account.provisioning_state.lower() in BROKEN:
        found.append(
            finding("provisioning_failed", **evidence, provisioning=account.provisioning_state)
        )
    if not account.custom_subdomain:
        found.append(finding("no_custom_subdomain", **evidence))
    return found or [finding("eligible", **evidence)]


def check_identity(state: State) -> list[Finding]:
    """Check that the account has an identity that can be given access."""
    account = state.account
    evidence = account.id.names | {"principal": account.principal_id}
    if not account.system_identity:
        return [finding("identity_off", **evidence)]
    if not account.principal_id:
        return [finding("identity_pending", **evidence)]
    return [finding("identity_on", **evidence)]


def check_routing(state: State) -> list[Finding]:
    """Check that the place of this account's runs is known and that the key may write there."""
    wish = state.desired
    # A malformed value is not repeated: it may hold anything.
    found = [finding(cause) for cause in (wish.entity_cause, wish.project_cause) if cause]
    owner = state.key.record.owner if state.key else None
    if found or owner is None:
        return found
    found = [_place_finding(state, owner, wish.entity, wish.project)]
    for rule, (entity, project) in wish.routed.items():
        found.append(_place_finding(state, owner, entity, project, rule=str(rule)))
    return found


def _place_finding(
    state: State, owner: KeyOwner, entity: str, project: str, **rule: str
) -> Finding:
    entity = entity or owner.entity
    place = {"entity": entity, "project": project, **rule}
    right = state.rights.get((entity, project))
    if right in ("read_only", "refused"):
        return finding(f"project_{right}", **place)
    # W&B does not list every team that a service account of an organization may write to.
    if right != "write" and not owner.may_write(entity):
        belongs_to = ", ".join(owner.entities)
        return finding("entity_not_writable", wanted=entity, key_belongs_to=belongs_to, **rule)
    return finding("project_new" if right == "new_project" else "routing_ok", **place)


def missing_tags(state: State) -> dict[str, str]:
    """Return the record's tags that the account lacks; empty if no key is in use."""
    wish = state.desired
    if wish.secret is None or not (state.key and state.key.record.version):
        return {}
    wanted = {TAG_VAULT: wish.secret.vault.url, TAG_SECRET: wish.secret.name}
    return {name: value for name, value in wanted.items() if not state.account.tag(name)}


def check_record(state: State) -> list[Finding]:
    """Check that the account's tags name the vault and secret in use."""
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


_PORTAL = "https://ai.azure.com/resource/overview?wsid="
"""A resource's page in the classic portal; the new portal lacks the feature."""


def check_portal(state: State) -> list[Finding]:
    """Return the values to enter by hand in the portal, or that this was done."""
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
