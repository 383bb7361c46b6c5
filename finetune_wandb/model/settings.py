"""The app's settings, read once from a mapping, each with what it does and why its default.

Nothing here reads the environment: `function_app.py` passes it in. A mapping that cannot be
used raises SettingsProblems, which names every wrong setting at once, so that one look at
`/api/health` is enough to fix them all.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from finetune_wandb.model import ids
from finetune_wandb.model import setting_parsers as parse
from finetune_wandb.model.errors import SettingsError
from finetune_wandb.model.secret import SecretRef

ApplyMode = Literal["observe", "full"]
OFFICER = "Key Vault Secrets Officer"
USER = "Key Vault Secrets User"


class SettingsProblems(SettingsError):
    """All settings that cannot be used. `problems` has one SettingsError each, in field order."""

    def __init__(self, problems: list[SettingsError]) -> None:
        self.problems = problems
        super().__init__(
            "; ".join(f"{problem.subject}: {problem.message}" for problem in problems),
            subject=", ".join(problem.subject for problem in problems),
            remedy="; ".join(problem.remedy for problem in problems),
        )


def _setting(default: str | None, reader: Callable[[str], Any], value: str) -> Any:
    """Declare a field: `default` None means that the setting must be given; `value` says what to
    set it to."""
    return field(metadata={"default": default, "parse": reader, "value": value})


def _choice(default: str, *others: str) -> Any:
    """Declare a field that takes one of a few words."""
    return _setting(default, parse.choice(default, *others), " or ".join((default, *others)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Typed settings. A field's setting has its name in capitals."""

    azure_subscription_ids: tuple[str, ...] = _setting(
        None, parse.subscriptions, "subscription ids, comma-separated"
    )
    """Subscriptions whose accounts are looked after, in lower case. Events about any other are
    refused. No default: which accounts may be changed is never guessed."""
    key_vault_url: ids.VaultAddress = _setting(None, parse.vault, "https://NAME.vault.azure.net")
    """The vault that holds the W&B key."""
    wandb_secret_name: str = _setting("wandb-api-key", parse.secret_name, "the name of the secret")
    """The secret whose value is the W&B key."""
    allowed_vaults: tuple[str, ...] = _setting(
        "", parse.vault_names, "vault names, comma-separated"
    )
    """Vault names, in lower case, that a tag or an event may choose among, beside the vault of
    KEY_VAULT_URL. Default: that one alone, so that a person who may tag an account cannot point the
    app elsewhere."""
    allowed_secrets: tuple[str, ...] = _setting(
        "", parse.secret_names, "secret names, comma-separated"
    )
    """Secret names, in lower case, that a tag or an event may choose among, beside
    WANDB_SECRET_NAME. Default: that one alone."""
    wandb_base_url: str = _setting(
        "https://api.forge.coreweave.com", parse.url, "W&B's API address"
    )
    """W&B's API, the only place a key is sent to. Default: the pinned SDK's own."""
    wandb_app_url: str = _setting("", parse.optional_url, "the address of W&B's pages")
    """Where W&B's pages are, for links to runs. Default: follows WANDB_BASE_URL."""
    wandb_entity: str = _setting("", parse.entity, "a W&B team or user name")
    """Team or user that runs belong to. Default: the entity that the key itself belongs to."""
    wandb_project: str = _setting("azure-openai-fine-tuning", parse.project, "a W&B project name")
    """Project of runs whose account and job name none."""
    onboarding_scope: str = _choice("all", "tagged")
    """`all`: every account unless tagged `off`. `tagged`: only accounts tagged
    `wandb-integration=on` or `observe`."""
    apply_mode: ApplyMode = _choice("full", "observe")
    """`observe`: the app writes nothing to Azure, creates and deletes no key, cancels no job.
    `full`: it makes every change that the integration needs. Default full: set-up without manual
    steps."""
    vault_role: str = _choice(OFFICER, USER)
    """Role of the account's identity on the vault. Default: what Microsoft's article asks for;
    Secrets User is the least that reads a secret, but no page says that it is enough."""
    vault_role_scope: str = _choice("vault", "secret")
    """Whether that role is given on the whole vault (as the article does) or on the one secret."""
    native_jobs: str = _choice("skip", "relay")
    """Jobs that carry their own W&B integration: left to it (default, so that no value is in W&B
    twice), or relayed as well."""
    datasets: str = _choice("metadata", "content")
    """What of a training file reaches W&B: name, size, rows and hash, or its rows too. Default
    metadata: training data stays private unless this setting says otherwise."""
    artifacts: str = _choice("on", "off")
    """Whether data set, result file, checkpoints and model of a finished job become W&B artifacts
    of its run. Off: metrics, config and summary only."""
    best_checkpoint_metric: str = _setting("", parse.text, "the name of a metric")
    """Metric that the best checkpoint is chosen by: losses low, all others high. Default: the
    first that there is of full_valid_loss, valid_loss, train_loss; for reinforcement jobs the last
    validation reward before the checkpoint, else its train_mean_reward. The default is also used,
    with a note, for a job that has no such metric."""
    prices: parse.Prices = _setting(
        "", parse.prices, 'JSON such as {"o4-mini": {"usd_per_hour": 100}}'
    )
    """Prices by model (a name's beginning is enough) or training type: `usd_per_hour` of training
    or `usd_per_1k_tokens` trained. Default none: price lists change."""
    alerts: tuple[str, ...] = _setting(
        "failed,stalled,diverging,gap,cost,pause",
        parse.alerts,
        "any of failed, stalled, diverging, gap, cost, pause, or to none",
    )
    """Which alerts are raised, as W&B alert on the run and as notice: each once per job. `none`
    switches all off."""
    cost_alert_usd: float = _setting("0", parse.number, "an amount in USD")
    """Cost of a job, estimated while it runs, from which the `cost` alert is raised; 0 raises none."""
    stall_factor: float = _setting("10", parse.number, "a number above 1")
    """How many times its usual interval a job may be without a new value before it counts as
    stalled (and at least ten minutes)."""
    on_wandb_stop: str = _choice("note", "cancel")
    """What a Stop pressed on the run in W&B does: noted in the status, or the fine-tuning job is
    cancelled. Default note: a button in W&B should not spend or save money unasked."""
    rotation: str = _choice("off", "mint")
    """`mint`: when the key in use nears its end, the app creates a new one in W&B, proves it,
    stores it as a new version of the secret, and later deletes the old one if the app created it.
    Needs the role Key Vault Secrets Officer on the vault. Default off: people store new keys."""
    rotation_before_days: float = _setting("14", parse.time_span, "a number of days")
    """How many days before its end a key is replaced (ROTATION=mint); at most half of
    ROTATION_LIFETIME_DAYS counts."""
    rotation_lifetime_days: float = _setting(
        "90", parse.positive_time_span, "a number of days above 0"
    )
    """After how many days the version of a new key expires (ROTATION=mint)."""
    rotation_grace_hours: float = _setting("72", parse.time_span, "a number of hours")
    """How many hours an old key goes on working after it was replaced (ROTATION=mint). Default
    three days: Azure's own integration reads the key when a job begins and keeps it."""
    relay_schedule: str = _setting("0 * * * * *", parse.text, "a six-field NCRONTAB schedule")
    """When metrics are relayed (NCRONTAB, UTC). Default every minute: W&B calls a run crashed
    after about five minutes of silence. Read by the host, not by the app."""
    drift_schedule: str = _setting("0 17 * * * *", parse.text, "a six-field NCRONTAB schedule")
    """When every account is checked whether or not an event came (NCRONTAB, UTC). Default hourly,
    off the full hour. Read by the host, not by the app."""
    notify_topic_endpoint: str = _setting("", parse.optional_url, "an Event Grid topic's endpoint")
    """Event Grid topic that state changes are published to, for people's own alerts. Default:
    none."""
    openai_token_scope: str = _setting(
        "https://cognitiveservices.azure.com/.default",
        parse.url,
        "the token scope of the fine-tuning API",
    )
    """Token scope of the fine-tuning API. Newer accounts may want https://ai.azure.com/.default."""
    sandbox_url: str = _setting("", parse.optional_url, "the sandbox's address")
    """Set: all Azure traffic goes to the sandbox at this address. Default: to Azure. An app that runs
    in Azure refuses it."""

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


def names() -> tuple[str, ...]:
    """Return every setting's name, in the order of the class."""
    return tuple(item.name.upper() for item in fields(Settings))


def defaults() -> dict[str, str | None]:
    """Return each setting's default as text; None where it must be given."""
    return {item.name.upper(): item.metadata["default"] for item in fields(Settings)}


def read_settings(source: Mapping[str, str]) -> Settings:
    """Return the settings in `source`. Empty text counts as not given.

    Raises SettingsProblems naming every setting that is missing or malformed.
    """
    values: dict[str, Any] = {}
    problems: list[SettingsError] = []
    for item in fields(Settings):
        name = item.name.upper()
        text = (source.get(name) or "").strip()
        default = cast("str | None", item.metadata["default"])
        remedy = f"set {name} to {item.metadata['value']}"
        if not text and default is None:
            problems.append(SettingsError("is not set", subject=name, remedy=remedy))
            continue
        try:
            values[item.name] = item.metadata["parse"](text or default or "")
        except ValueError as error:
            problems.append(SettingsError(str(error), subject=name, remedy=remedy))
    # Azure gives every app its name.
    if values.get("sandbox_url") and source.get("WEBSITE_SITE_NAME"):
        cause = "would send the app's requests and tokens elsewhere; it is for development only"
        remedy = "remove SANDBOX_URL from the app's settings"
        problems.append(SettingsError(cause, subject="SANDBOX_URL", remedy=remedy))
    if problems:
        raise SettingsProblems(problems)
    # What every account uses that chooses nothing is allowed, whatever else is.
    own = values["key_vault_url"].name, values["wandb_secret_name"].lower()
    values["allowed_vaults"] = tuple(dict.fromkeys((own[0], *values["allowed_vaults"])))
    values["allowed_secrets"] = tuple(dict.fromkeys((own[1], *values["allowed_secrets"])))
    return Settings(**values)
