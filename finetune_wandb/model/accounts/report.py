"""Findings of the checks, the steps that clear them, their outcomes, and the report of one pass."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from finetune_wandb.model.accounts.account import RelayAccount
from finetune_wandb.model.ids import AccountId
from finetune_wandb.model.secret import SecretRef
from finetune_wandb.model.settings import ApplyMode

Severity = Literal["ok", "warning", "blocked", "manual"]
"""`ok`: as desired. `warning`: works, but should change. `blocked`: the integration
cannot work until this changes. `manual`: a step that only a person can take and that the relay
does not need."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`cause` is a code of `model/causes.toml`; `evidence` holds ids, names and codes only."""

    check: str
    severity: Severity
    cause: str
    evidence: Mapping[str, str] = field(default_factory=dict)
    remedy: str = ""


def open_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings that are not `ok`, in their order."""
    return [item for item in findings if item.severity != "ok"]


StepKind = Literal[
    "enable_identity", "grant_role", "revoke_role", "add_access_policy", "write_record"
]
StepState = Literal["done", "skipped", "deferred", "failed"]
StepReason = Literal["", "denied", "refused", "missing", "temporary"]


@dataclass(frozen=True, slots=True)
class Step:
    """One idempotent change."""

    kind: StepKind
    target: str
    """ARM id of what is changed."""
    cause: str
    """Code of the finding that this step clears."""
    needs: tuple[StepKind, ...] = ()
    """Steps that must be done before this one can be tried."""
    values: Mapping[str, str] = field(default_factory=dict)
    """What is written. A principal that does not exist yet is left out and read when it does."""


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """The outcome of a step. `detail` is for people; `code` is the service's own error code."""

    step: Step
    state: StepState
    detail: str = ""
    code: str = ""
    reason: StepReason = ""
    """Which kind of error ended it; empty when none did."""
    retry_after: float | None = None
    """Seconds after which the service asks for a retry; only with `deferred`."""


@dataclass(frozen=True, slots=True)
class Told:
    """What subscribers know of an account."""

    at: datetime
    """The time of the pass whose notices were sent last."""
    healthy: bool
    failures: tuple[str, ...] = ()
    """Steps that failed permanently, with the service's codes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountReport:
    """Everything one pass over one account found and did."""

    id: AccountId
    checked_at: datetime
    mode: ApplyMode
    """What the app may do with the account: the narrower of setting and tag."""
    findings: tuple[Finding, ...]
    readable: bool = True
    """False: the account could not be read. Only id, findings and times are known, and the stored
    facts stay as they were."""
    deleted: bool = False
    in_scope: bool = False
    """Whether the app manages this account and relays its jobs."""
    healthy: bool = False
    settled: bool = True
    """False: what is wrong may clear on its own, so no notice is sent yet."""
    kind: str = ""
    region: str = ""
    endpoint: str = ""
    entity: str = ""
    """W&B entity that runs go to; empty when it is not known yet or may not be written to."""
    project: str = ""
    secret: SecretRef | None = None
    """Where its W&B key is; None when the vault or secret that was asked for may not be used."""
    principal_id: str = ""
    plan: tuple[Step, ...] = ()
    """The steps planned when the pass began."""
    steps: tuple[StepOutcome, ...] = ()
    """The outcome of each step of the plan."""
    retry_after_s: float | None = None
    """Seconds until the next pass; None if only a change can help."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """The account's, names in lower case."""
    native_seen: bool = False
    """Whether a job of the account was ever seen with Azure's own W&B integration."""
    told: Told | None = None
    """What the last notices reported; None before the first one."""

    @property
    def name(self) -> str:
        return self.id.name

    @property
    def key(self) -> str:
        """The id in lower case."""
        return self.id.key

    def for_relay(self, secret: SecretRef) -> RelayAccount:
        """Return what the relay needs of the account, whose key is in `secret`."""
        return RelayAccount(
            id=self.id,
            name=self.name,
            endpoint=self.endpoint,
            region=self.region,
            subscription=self.id.subscription,
            entity=self.entity,
            project=self.project,
            secret=secret,
            native_seen=self.native_seen,
            observed=self.mode == "observe",
            tags=self.tags,
        )
