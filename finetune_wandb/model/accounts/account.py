"""An Azure AI account as ARM shows it, and what the relay needs to know of one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from finetune_wandb.model.ids import AccountId
from finetune_wandb.model.routes import Routes
from finetune_wandb.model.secret import SecretRef

OPENAI_KINDS = ("OpenAI", "AIServices")
"""Kinds of account that can fine-tune OpenAI models."""

SETTLED = "succeeded"
BROKEN = ("failed", "canceled")
"""Provisioning states, in lower case, with no operation in progress; all others are transient."""

TAG_MODE = "wandb-integration"
TAG_ENTITY = "wandb-entity"
TAG_PROJECT = "wandb-project"
TAG_VAULT = "wandb-key-vault-url"
TAG_SECRET = "wandb-secret-name"  # noqa: S105  # a tag's name
TAG_PORTAL = "wandb-portal-update"

_OPENAI_HOSTS = (".openai.azure.com", ".openai.azure.us", ".openai.azure.cn")


@dataclass(frozen=True, slots=True)
class Account:
    """An account's control-plane facts."""

    id: AccountId
    kind: str
    region: str
    provisioning_state: str
    endpoint: str
    """Where its fine-tuning API answers, without a trailing slash."""
    custom_subdomain: str = ""
    system_identity: bool = False
    principal_id: str = ""
    """Of the system-assigned identity; empty if it is off or not created yet."""
    tenant_id: str = ""
    user_identities: tuple[str, ...] = ()
    """ARM ids of user-assigned identities, as the service wrote them."""
    tags: Mapping[str, str] = field(default_factory=dict)

    def tag(self, name: str) -> str:
        """Return a tag's value without surrounding blanks, empty without one.

        Tag names are compared without regard to case, as ARM does.
        """
        for key, value in self.tags.items():
            if key.lower() == name:
                return value.strip()
        return ""

    @property
    def settled(self) -> bool:
        """Whether no operation on the account is in progress."""
        state = self.provisioning_state.lower()
        return state == SETTLED or state in BROKEN


def openai_endpoint(primary: str, others: Mapping[str, str]) -> str:
    """Return the URL, without a trailing slash, that the fine-tuning API answers on.

    An AIServices account's primary URL serves all its services; the one of the OpenAI API is among
    `others`. Accounts of kind OpenAI have only the primary one.
    """
    for url in (primary, *others.values()):
        host = urlsplit(url).hostname or ""
        if host.endswith(_OPENAI_HOSTS):
            return f"https://{host}"
    return primary.rstrip("/")


@dataclass(frozen=True, slots=True)
class RelayAccount:
    """What the relay needs to know of an account whose jobs it relays."""

    id: AccountId
    name: str
    endpoint: str
    region: str
    subscription: str
    entity: str
    """Empty: the entity of the key in use."""
    project: str
    secret: SecretRef
    native_seen: bool = False
    """Whether one of its jobs was seen with its own W&B integration."""
    observed: bool = False
    """Whether the app may only observe it and cancels no job."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Its tags that choose where runs go; names in lower case."""
    routes: Routes = ()
    """The rules that can match its jobs, in their order."""
    run_tags: tuple[str, ...] = ()
    """W&B tags that each of its runs gets."""

    @property
    def key(self) -> str:
        """The id in lower case."""
        return self.id.key
