"""The app's settings, read once from a mapping, each with what it does and why its default.

Nothing here reads the environment: `function_app.py` passes it in. A mapping that cannot be
used raises SettingsProblems, which names every wrong setting at once, so that one look at
`/api/health` is enough to fix them all. Error texts never repeat a value: what was pasted into
the wrong field may be a secret.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal
from urllib.parse import urlsplit

from finetune_wandb.model import ids
from finetune_wandb.model.errors import NoticeError, SettingsError
from finetune_wandb.model.routes import MOST_TAG, Routes, read_routes
from finetune_wandb.model.secret import SecretRef

ApplyMode = Literal["observe", "full"]
Prices = Mapping[str, Mapping[str, float]]
OFFICER = "Key Vault Secrets Officer"
USER = "Key Vault Secrets User"
_MOST_USD = 1e9
"""Upper limit of a price per hour or per thousand tokens."""
_LONGEST = 100_000
"""Days or hours; a date much further away cannot be computed."""
_ALERTS = ("failed", "stalled", "diverging", "gap", "cost", "pause")


class SettingsProblems(SettingsError):
    """All settings that cannot be used. `problems` has one SettingsError each, in field order."""

    def __init__(self, problems: list[SettingsError]) -> None:
        self.problems = problems
        super().__init__(
            "; ".join(f"{problem.subject}: {problem.message}" for problem in problems),
            subject=", ".join(problem.subject for problem in problems),
            remedy="; ".join(problem.remedy for problem in problems),
        )


def _checked(is_right: Callable[[str], bool], wrong: str) -> Callable[[str], str]:
    """Return a reader of text that `is_right` accepts; `wrong` is the error for any other text."""

    def parse(value: str) -> str:
        if not is_right(value):
            raise ValueError(wrong)
        return value

    return parse


_secret_name = _checked(ids.is_secret_name, "is not a secret name (1-127 letters, digits, hyphens)")
_entity = _checked(
    lambda value: not value or ids.is_entity_name(value),
    "is not a W&B team or user (1-128 letters, digits, _ . -)",
)
_project = _checked(
    ids.is_project_name,
    "is not a W&B project name (1-128 characters, none of / \\ # ? % :)",
)


def _entries(
    value: str, is_right: Callable[[str], bool] = bool, wrong: str = ""
) -> tuple[str, ...]:
    """Return the parts of a list in lower case; its errors name the place, from 1."""
    found = tuple(part.strip().lower() for part in value.split(",") if part.strip())
    for place, part in enumerate(found, start=1):
        if not is_right(part):
            raise ValueError(f"entry {place} is not {wrong}")
    return found


def _subscriptions(value: str) -> tuple[str, ...]:
    found = _entries(value, ids.is_guid, "a subscription id")
    if not found:
        raise ValueError("is empty")
    return tuple(dict.fromkeys(found))


def _vault_names(value: str) -> tuple[str, ...]:
    return _entries(value, ids.is_vault_name, "a vault name (a name alone, not its URL)")


def _secret_names(value: str) -> tuple[str, ...]:
    return tuple(map(_secret_name, _entries(value)))


def _tags(value: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in value.split(",") if part.strip())
    for place, part in enumerate(found, start=1):
        if len(part.encode()) > MOST_TAG:
            raise ValueError(f"entry {place} is longer than {MOST_TAG} bytes")
    return found


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        is_url = parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # its text repeats the value
        raise ValueError("is not a URL") from None
    if not is_url or parts.username is not None:
        raise ValueError("is not a URL")
    if any(char.isspace() or char in "?#\\" for char in value):
        # Paths are appended to it, so it must not contain a query or fragment.
        raise ValueError("must be a URL that ends with its path, without blanks")
    if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        # A key sent over a network in clear text is disclosed.
        raise ValueError("must be https (http is accepted on this machine only)")
    return value.rstrip("/")


def _optional_url(value: str) -> str:
    return _url(value) if value else ""


def _number(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError("is not a number of 0 or more")
    return number


def _time_span(value: str) -> float:
    found = _number(value)
    if found > _LONGEST:
        raise ValueError(f"is more than {_LONGEST}")
    return found


def _positive_time_span(value: str) -> float:
    found = _time_span(value)
    if not found:
        raise ValueError("is not a number above 0")
    return found


def _alerts(value: str) -> tuple[str, ...]:
    chosen = _entries(value)
    if chosen == ("none",):
        return ()
    if any(name not in _ALERTS for name in chosen):
        raise ValueError(f"may name only {', '.join(_ALERTS)}")
    return chosen


def _prices(value: str) -> Prices:
    if not value:
        return {}
    try:
        found = json.loads(value)
    except ValueError:
        raise ValueError("is not JSON") from None
    if not isinstance(found, dict):
        raise ValueError("is not a JSON object")
    for place, price in enumerate(found.values(), start=1):
        if (
            not isinstance(price, dict)
            or not price
            or set(price) - {"usd_per_hour", "usd_per_1k_tokens"}
            or any(type(one) not in (int, float) for one in price.values())
            or not all(0 <= one < _MOST_USD for one in price.values())  # false for NaN too
        ):
            raise ValueError(
                f"entry {place} must hold usd_per_hour or usd_per_1k_tokens as numbers of 0 or more"
            )
    return {str(name).lower(): price for name, price in found.items()}


def _setting(default: str | None, reader: Callable[[str], Any], value: str) -> Any:
    """Declare a field: `default` None means that the setting must be given; `value` says what to
    set it to."""
    return field(metadata={"default": default, "parse": reader, "value": value})


def _choice(default: str, *others: str) -> Any:
    """Declare a field that takes one of a few words, in any letter case."""
    choices = default, *others

    def parse(value: str) -> str:
        for choice in choices:
            if value.lower() == choice.lower():
                return choice
        raise ValueError(f"is not one of {', '.join(choices)}")

    return _setting(default, parse, " or ".join(choices))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Typed settings. A field's setting has its name in capitals."""

    azure_subscription_ids: tuple[str, ...] = _setting(
        None, _subscriptions, "subscription ids, comma-separated"
    )
    """Subscriptions whose accounts the app manages, in lower case. Events about any other are
    refused. No default: which accounts may be changed is never guessed."""
    key_vault_url: ids.VaultAddress = _setting(
        None, ids.parse_vault_url, "https://NAME.vault.azure.net"
    )
    """The vault that holds the W&B key."""
    wandb_secret_name: str = _setting("wandb-api-key", _secret_name, "the name of the secret")
    """The secret whose value is the W&B key."""
    allowed_vaults: tuple[str, ...] = _setting("", _vault_names, "vault names, comma-separated")
    """Vault names, in lower case, that a tag or an event may choose, besides the vault of
    KEY_VAULT_URL. Default: only that one, so that a person who may tag an account cannot point the
    app elsewhere."""
    allowed_secrets: tuple[str, ...] = _setting("", _secret_names, "secret names, comma-separated")
    """Secret names, in lower case, that a tag or an event may choose, besides WANDB_SECRET_NAME.
    Default: only that one."""
    wandb_base_url: str = _setting("https://api.forge.coreweave.com", _url, "W&B's API address")
    """W&B's API, the only place a key is sent to. Default: the pinned SDK's own."""
    wandb_app_url: str = _setting("", _optional_url, "the address of W&B's pages")
    """Where W&B's pages are, for links to runs. Default: follows WANDB_BASE_URL."""
    wandb_entity: str = _setting("", _entity, "a W&B team or user name")
    """Team or user that owns the runs. Default: the key's own entity."""
    wandb_project: str = _setting("azure-openai-fine-tuning", _project, "a W&B project name")
    """Project of runs whose account and job name none."""
    default_tags: tuple[str, ...] = _setting("", _tags, "W&B tags, comma-separated")
    """W&B tags that every run gets in addition to its own."""
    routes: Routes = _setting(
        "", read_routes, 'JSON such as [{"match": {"suffix": "exp-*"}, "project": "experiments"}]'
    )
    """Rules that choose entity, project, group and tags of a run by its account and job; the first
    match decides. What a job or its account's tags ask for comes first."""
    onboarding_scope: str = _choice("all", "tagged")
    """`all`: every account unless tagged `off`. `tagged`: only accounts tagged
    `wandb-integration=on` or `observe`."""
    apply_mode: ApplyMode = _choice("full", "observe")
    """`observe`: the app writes nothing to Azure, creates and deletes no key, cancels no job.
    `full`: it makes every change that the integration needs. Default full: set-up without manual
    steps."""
    vault_role: str = _choice(OFFICER, USER)
    """Role of the account's identity on the vault. Default: what Microsoft's article asks for;
    Secrets User is the least that can read a secret, but no page says that it suffices."""
    vault_role_scope: str = _choice("vault", "secret")
    """Whether that role is given on the whole vault (as in the article) or on one secret. If it or
    the role asks for less than before, the app takes back what it assigned itself."""
    native_jobs: str = _choice("skip", "relay")
    """Jobs that carry their own W&B integration: left to it (default, so that no value is in W&B
    twice), or relayed as well."""
    datasets: str = _choice("metadata", "content")
    """What of a training file reaches W&B: name, size, rows and hash, or its rows too. Default
    metadata: training data stays private unless this setting says otherwise."""
    artifacts: str = _choice("on", "off")
    """Whether data set, result file, checkpoints and model of a finished job become W&B artifacts
    of its run. Off: metrics, config and summary only."""
    best_checkpoint_metric: str = _setting("", str, "the name of a metric")
    """Metric that decides the best checkpoint: lowest for losses, highest for others. Default: the
    first one present of full_valid_loss, valid_loss, train_loss; for reinforcement jobs the last
    validation reward before the checkpoint, else its train_mean_reward. The default is also used,
    with a note, for a job that has no such metric."""
    prices: Prices = _setting("", _prices, 'JSON such as {"o4-mini": {"usd_per_hour": 100}}')
    """Prices by model (a name's beginning is enough) or training type: `usd_per_hour` of training
    or `usd_per_1k_tokens` trained. Default none: price lists change."""
    alerts: tuple[str, ...] = _setting(
        "failed,stalled,diverging,gap,cost,pause",
        _alerts,
        "any of failed, stalled, diverging, gap, cost, pause, or to none",
    )
    """Which alerts are raised, as a W&B alert on the run and as a notice, each once per job. `none`
    switches all off."""
    cost_alert_usd: float = _setting("0", _number, "an amount in USD")
    """Cost of a job, estimated while it runs, that raises the `cost` alert; 0 raises none."""
    stall_factor: float = _setting("10", _number, "a number above 1")
    """How many times its usual interval a job may be without a new value before it counts as
    stalled (and at least ten minutes)."""
    on_wandb_stop: str = _choice("note", "cancel")
    """What Stop on the run in W&B does: add a note to the status, or cancel the fine-tuning job.
    Default note: a button in W&B should not spend or save money unasked."""
    rotation: str = _choice("off", "mint")
    """`mint`: before the key in use expires, the app creates a new one in W&B, proves it,
    stores it as a new version of the secret, and later deletes the old one if the app created it.
    Needs the role Key Vault Secrets Officer on the vault. Default off: people store new keys."""
    rotation_before_days: float = _setting("14", _time_span, "a number of days")
    """How many days before its expiry a key is replaced (ROTATION=mint); at most half of
    ROTATION_LIFETIME_DAYS counts."""
    rotation_lifetime_days: float = _setting("90", _positive_time_span, "a number of days above 0")
    """After how many days the version of a new key expires (ROTATION=mint)."""
    rotation_grace_hours: float = _setting("72", _time_span, "a number of hours")
    """How many hours a replaced key keeps working (ROTATION=mint). Default
    three days: Azure's own integration reads the key when a job begins and keeps it. Must be less
    than the time a key is used: ROTATION_LIFETIME_DAYS minus ROTATION_BEFORE_DAYS."""
    relay_schedule: str = _setting("0 * * * * *", str, "a six-field NCRONTAB schedule")
    """When metrics are relayed (NCRONTAB, UTC). Default every minute: W&B calls a run crashed
    after about five minutes of silence. Read by the host, not by the app."""
    drift_schedule: str = _setting("0 17 * * * *", str, "a six-field NCRONTAB schedule")
    """When every account is checked without an event (NCRONTAB, UTC). Default hourly,
    off the full hour. Read by the host, not by the app."""
    notify_topic_endpoint: str = _setting("", _optional_url, "an Event Grid topic's endpoint")
    """Event Grid topic for notices of state changes, for your own alerts. Default: none."""
    audit_days: float = _setting("400", _positive_time_span, "a number of days above 0")
    """How many days an audit entry is kept. Default: a year, and a month to review it."""
    openai_token_scope: str = _setting(
        "https://cognitiveservices.azure.com/.default",
        _url,
        "the token scope of the fine-tuning API",
    )
    """Token scope of the fine-tuning API. Newer accounts may want https://ai.azure.com/.default."""
    sandbox_url: str = _setting("", _optional_url, "the sandbox's address")
    """If set, all Azure traffic goes to the sandbox at this address. Default: to Azure. An app that
    runs in Azure refuses it."""

    @property
    def default_secret(self) -> SecretRef:
        """The secret used by accounts whose tags choose nothing else."""
        return SecretRef(self.key_vault_url, self.wandb_secret_name)

    def allows_vault(self, vault: ids.VaultAddress) -> bool:
        """Return whether tags and events may choose a vault.

        The suffix must match too: in another cloud the same name is another customer's vault.
        """
        return vault.name in self.allowed_vaults and vault.suffix == self.key_vault_url.suffix

    def why_not(self, secret: SecretRef) -> str:
        """Return the cause code that forbids a secret, empty when it may be used."""
        if not self.allows_vault(secret.vault):
            return "vault_not_allowed"
        return "" if secret.name.lower() in self.allowed_secrets else "secret_not_allowed"

    @property
    def run_url_root(self) -> str:
        """Where run pages are: ROOT/ENTITY/PROJECT/runs/ID."""
        if self.wandb_app_url:
            return self.wandb_app_url
        host = urlsplit(self.wandb_base_url).hostname
        return _APP_URLS.get(host or "", self.wandb_base_url)


_APP_URLS = {
    "api.forge.coreweave.com": "https://forge.coreweave.com/wandb",
    "api.wandb.ai": "https://wandb.ai",
}
"""Hosted W&B serves its pages elsewhere than its API; a self-hosted one serves both."""


def read_settings(source: Mapping[str, str]) -> Settings:
    """Return the settings in `source`. Empty text counts as not given.

    Raises SettingsProblems naming every setting that is missing or malformed.
    """
    values: dict[str, Any] = {}
    problems: list[SettingsError] = []
    for item in fields(Settings):
        name = item.name.upper()
        text = (source.get(name) or "").strip()
        default = item.metadata["default"]
        try:
            if not text and default is None:
                raise ValueError("is not set")
            values[item.name] = item.metadata["parse"](text or default)
        except (ValueError, NoticeError) as error:
            remedy = f"set {name} to {item.metadata['value']}"
            problems.append(SettingsError(str(error), subject=name, remedy=remedy))
    # Azure gives every app its name.
    if values.get("sandbox_url") and source.get("WEBSITE_SITE_NAME"):
        cause = "would send the app's requests and tokens elsewhere; it is for development only"
        remedy = "remove SANDBOX_URL from the app's settings"
        problems.append(SettingsError(cause, subject="SANDBOX_URL", remedy=remedy))
    if not problems:
        problems = _contradictions(values)
    if problems:
        raise SettingsProblems(problems)
    # The defaults are always allowed.
    own = values["key_vault_url"].name, values["wandb_secret_name"].lower()
    values["allowed_vaults"] = tuple(dict.fromkeys((own[0], *values["allowed_vaults"])))
    values["allowed_secrets"] = tuple(dict.fromkeys((own[1], *values["allowed_secrets"])))
    return Settings(**values)


def _contradictions(values: Mapping[str, Any]) -> list[SettingsError]:
    """Return the problems of settings that cannot be used together."""
    lifetime = values["rotation_lifetime_days"]
    hours = 24 * (lifetime - min(values["rotation_before_days"], lifetime / 2))
    if values["rotation"] == "off" or values["rotation_grace_hours"] < hours:
        return []
    text = "is as long as a key is used: the next rotation begins before the old key may be deleted"
    remedy = f"set ROTATION_GRACE_HOURS to less than {hours:g}, or ROTATION_LIFETIME_DAYS to more"
    return [SettingsError(text, subject="ROTATION_GRACE_HOURS", remedy=remedy)]
