"""What the settings and an account's tags ask for. Tags can only choose among what is allowed.

A tag that is not allowed becomes a cause code for the checks to report; its value is never used.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from finetune_wandb.model.accounts.account import (
    OPENAI_KINDS,
    TAG_ENTITY,
    TAG_MODE,
    TAG_PROJECT,
    TAG_SECRET,
    TAG_VAULT,
    Account,
)
from finetune_wandb.model.errors import NoticeError
from finetune_wandb.model.ids import (
    VaultAddress,
    is_entity_name,
    is_project_name,
    is_secret_name,
    parse_vault_url,
)
from finetune_wandb.model.routes import possible_routes
from finetune_wandb.model.secret import SecretRef
from finetune_wandb.model.settings import ApplyMode, Settings


@dataclass(frozen=True, slots=True)
class Desired:
    """The desired state of one account. A non-empty `…_cause` says why a part of it is missing."""

    scope_cause: str
    """`eligible`, or the code that says why the account is out of scope."""
    mode: ApplyMode
    vault: VaultAddress | None
    vault_cause: str
    vault_asked: str
    """The vault's name as asked for, whether allowed or not; empty when it is not a name."""
    secret_name: str
    secret_cause: str
    secret_asked: str
    entity: str
    """Empty: the entity of the key in use."""
    entity_cause: str
    project: str
    project_cause: str
    routed: Mapping[int, tuple[str, str]]
    """Entity and project that the rules of ROUTES give to jobs of the account, by rule from 1."""
    role: str
    on_secret: bool
    """Whether the role is given on the one secret instead of the whole vault."""

    @property
    def secret(self) -> SecretRef | None:
        """Where the W&B key is; None when the vault or the name may not be used."""
        return SecretRef(self.vault, self.secret_name) if self.vault and self.secret_name else None

    @property
    def in_scope(self) -> bool:
        return self.scope_cause == "eligible"

    @property
    def places(self) -> tuple[tuple[str, str], ...]:
        """Entity and project of every place that jobs of the account may go to."""
        return ((self.entity, self.project), *self.routed.values())

    @property
    def routable(self) -> bool:
        """Whether the place of this account's runs in W&B is known."""
        return not self.entity_cause and not self.project_cause


def desired_for(account: Account, settings: Settings) -> Desired:
    """Return an account's desired state."""
    vault, vault_cause, vault_asked = _vault(account.tag(TAG_VAULT), settings)
    secret, secret_cause, secret_asked = _secret(account.tag(TAG_SECRET), settings)
    entity = account.tag(TAG_ENTITY) or settings.wandb_entity
    project = account.tag(TAG_PROJECT) or settings.wandb_project
    entity_ok = not entity or is_entity_name(entity)
    project_ok = is_project_name(project)
    rules = possible_routes(settings.routes, account.id, account.tags)
    return Desired(
        scope_cause=_scope_cause(account, settings),
        mode=_mode(account, settings),
        vault=vault,
        vault_cause=vault_cause,
        vault_asked=vault_asked,
        secret_name=secret,
        secret_cause=secret_cause,
        secret_asked=secret_asked,
        entity=entity if entity_ok else "",
        entity_cause="" if entity_ok else "entity_malformed",
        project=project if project_ok else "",
        project_cause="" if project_ok else "project_malformed",
        routed={
            place: (
                account.tag(TAG_ENTITY) or rule.entity or entity,
                account.tag(TAG_PROJECT) or rule.project or project,
            )
            for place, rule in rules.items()
        },
        role=settings.vault_role,
        on_secret=settings.vault_role_scope == "secret",
    )


def _vault(tag: str, settings: Settings) -> tuple[VaultAddress | None, str, str]:
    if not tag:
        vault = settings.key_vault_url
    else:
        try:
            vault = parse_vault_url(tag)
        except NoticeError:
            return None, "vault_url_malformed", ""
    if not settings.allows_vault(vault):
        return None, "vault_not_allowed", vault.name
    return vault, "", vault.name


def _secret(tag: str, settings: Settings) -> tuple[str, str, str]:
    secret = tag or settings.wandb_secret_name
    if not is_secret_name(secret):
        return "", "secret_name_malformed", ""
    if secret.lower() not in settings.allowed_secrets:
        return "", "secret_not_allowed", secret
    return secret, "", secret


def _scope_cause(account: Account, settings: Settings) -> str:
    mode = account.tag(TAG_MODE).lower()
    if account.id.subscription.lower() not in settings.azure_subscription_ids:
        return "subscription_not_configured"
    if account.kind.lower() not in (kind.lower() for kind in OPENAI_KINDS):
        return "kind_not_supported"
    if mode == "off":
        return "switched_off"
    if mode not in ("", "on", "observe"):
        return "mode_tag_unknown"
    if not mode and settings.onboarding_scope == "tagged":
        return "not_opted_in"
    return "eligible"


def _mode(account: Account, settings: Settings) -> ApplyMode:
    if account.tag(TAG_MODE).lower() == "observe":
        return "observe"
    return settings.apply_mode
