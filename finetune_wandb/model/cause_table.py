"""The catalogue of causes by check, in the order of the checks."""

from finetune_wandb.model import causes_account, causes_key, causes_rotation, causes_vault
from finetune_wandb.model.cause_row import Row

TABLE: dict[str, tuple[Row, ...]] = {
    "eligible": causes_account.ELIGIBLE,
    "identity": causes_account.IDENTITY,
    "vault": causes_vault.VAULT,
    "secret": causes_key.SECRET,
    "key": causes_key.KEY,
    "routing": causes_account.ROUTING,
    "access": causes_vault.ACCESS,
    "record": causes_account.RECORD,
    "portal": causes_account.PORTAL,
    "apply": causes_account.APPLY,
    "rotation": causes_rotation.ROTATION,
}
