"""The ports of this half in one object, made once per process by the composition root."""

from dataclasses import dataclass, field

from finetune_wandb.accounts.shared import SharedReads
from finetune_wandb.keys.ports import KeyPorts
from finetune_wandb.model.ports import (
    AccountPort,
    RolePort,
    VaultPort,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcilePorts(KeyPorts):
    """Everything a pass reads and writes through."""

    accounts: AccountPort
    vaults: VaultPort
    roles: RolePort
    shared: SharedReads = field(default_factory=SharedReads)
