"""ARM resource ids, vault addresses and rules for names. Pure text, no look-ups.

ARM compares ids without regard to case and does not always return the case it was given, so
ids are compared by `key`, never as text.
"""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from finetune_wandb.model.errors import NoticeError

_ACCOUNT = re.compile(
    r"^/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<group>[^/]+)"
    r"/providers/Microsoft\.CognitiveServices/accounts/(?P<name>[^/]+)/?$",
    re.IGNORECASE,
)
_SUBSCRIPTION = re.compile(r"^/subscriptions/([^/]+)", re.IGNORECASE)
_GUID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.IGNORECASE)
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
_GROUP = re.compile(r"^[\w().-]{1,90}$")
_VAULT_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9-]{1,22}[A-Za-z0-9]$")
_SECRET_NAME = re.compile(r"^[A-Za-z0-9-]{1,127}$")
_ENTITY_NAME = re.compile(r"^[A-Za-z0-9_.-]{1,128}$")
_FORBIDDEN_IN_PROJECTS = frozenset("/\\#?%:")

VAULT_SUFFIXES = ("vault.azure.net", "vault.azure.cn", "vault.usgovcloudapi.net")
"""Key Vault's hosts in the public, China and US Government clouds. No other host is ever asked.

Source: https://learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates,
"DNS suffixes for object identifiers" (checked 2026-11-24).
"""


@dataclass(frozen=True, slots=True)
class AccountId:
    """An Azure AI account's ARM id, in parts and in the case it was written."""

    subscription: str
    group: str
    name: str

    def __str__(self) -> str:
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.group}"
            f"/providers/Microsoft.CognitiveServices/accounts/{self.name}"
        )

    @property
    def names(self) -> dict[str, str]:
        """The names with which a command finds the account."""
        return {"account": self.name, "group": self.group, "subscription": self.subscription}

    @property
    def key(self) -> str:
        """The id in lower case: equal for every spelling of the same account."""
        return str(self).lower()


def parse_account_id(text: object) -> AccountId:
    """Return the parts of an account's ARM id. Raises NoticeError for anything else."""
    match = _ACCOUNT.fullmatch(text) if isinstance(text, str) and len(text) < 2048 else None
    if match is None or not (
        is_guid(match["subscription"])
        and _GROUP.fullmatch(match["group"])
        and _NAME.fullmatch(match["name"])
    ):
        raise NoticeError(
            "not the id of an Azure AI account",
            subject="account",
            remedy="give /subscriptions/GUID/resourceGroups/GROUP"
            "/providers/Microsoft.CognitiveServices/accounts/NAME",
        )
    return AccountId(match["subscription"], match["group"], match["name"])


def subscription_of(text: str) -> str | None:
    """Return the subscription part of any ARM id, in lower case, or None."""
    match = _SUBSCRIPTION.match(text)
    return match[1].lower() if match else None


def is_guid(text: str) -> bool:
    return bool(_GUID.fullmatch(text))


@dataclass(frozen=True, slots=True)
class VaultAddress:
    """Where a vault's data plane answers. Both parts are in lower case."""

    name: str
    suffix: str

    @property
    def host(self) -> str:
        return f"{self.name}.{self.suffix}"

    @property
    def url(self) -> str:
        """The vault's URL without a trailing slash."""
        return f"https://{self.host}"


def parse_vault_url(text: object) -> VaultAddress:
    """Return a vault's address from its URL or from the URL of something inside it.

    Raises NoticeError unless the URL is https, names a Key Vault host and carries neither
    user nor port: whatever passes here is a host that credentials may be sent to.
    """
    problem = NoticeError(
        "not the URL of a key vault", subject="vault", remedy="give https://NAME.vault.azure.net"
    )
    if not isinstance(text, str) or len(text) > 2048:
        raise problem
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        raise problem from None
    host = (parts.hostname or "").lower()
    name, _, suffix = host.partition(".")
    if (
        parts.scheme.lower() != "https"
        or port not in (None, 443)
        or parts.username is not None
        or suffix not in VAULT_SUFFIXES
        or not _VAULT_NAME.fullmatch(name)
    ):
        raise problem
    return VaultAddress(name, suffix)


def is_vault_name(text: str) -> bool:
    """Key Vault's rule: 3-24 letters, digits and hyphens, a letter first, no hyphen last."""
    return bool(_VAULT_NAME.fullmatch(text))


def is_secret_name(text: str) -> bool:
    """Key Vault's rule: 1-127 letters, digits and hyphens."""
    return bool(_SECRET_NAME.fullmatch(text))


def is_entity_name(text: str) -> bool:
    """Whether it can be the name of a W&B team or user, as in the URL of their page."""
    return bool(_ENTITY_NAME.fullmatch(text)) and text not in (".", "..")


def is_project_name(text: str) -> bool:
    """Whether W&B accepts it as a project's name."""
    return (
        0 < len(text) <= 128
        and not _FORBIDDEN_IN_PROJECTS & set(text)
        and text.isprintable()
        and text not in (".", "..")
    )
