"""Causes about rotation with keys that the app makes itself (ROTATION=mint).

Code, severity, whether it may pass by itself, meaning, remedy. Only text lives here.
"""

from finetune_wandb.model.cause_row import Row

_BY_HAND = (
    "Make a new key in W&B by hand and store it: az keyvault secret set --vault-name {vault}"
    " -n {secret} --file FILE_WITH_THE_KEY --expires DATE"
)

ROTATION: tuple[Row, ...] = (
    ("rotation_idle", "ok", False, "No rotation is under way, and none is due.", ""),
    (
        "rotation_under_way",
        "ok",
        True,
        "A new key is being made, proved and stored; the old one is in use until then.",
        "",
    ),
    (
        "rotation_grace",
        "ok",
        True,
        "The new key is in use. The old one works until the grace period is over and nothing"
        " uses it; then it is deleted.",
        "",
    ),
    (
        "mint_refused",
        "warning",
        False,
        "W&B does not let the owner of the key in use make another key. Nothing was changed.",
        "ROTATION=mint needs the key of a user or service account that may make keys of its own"
        " (docs/rotation.md). " + _BY_HAND,
    ),
    (
        "mint_not_accepted",
        "warning",
        True,
        "W&B made a key and did not accept it, or it may not write where the old one may. It"
        " was deleted; the old key stays in use.",
        "Wait: it is tried again by itself. " + _BY_HAND,
    ),
    (
        "mint_store_denied",
        "warning",
        False,
        "The app may not write secrets, so that it cannot store a new key. The key that was"
        " made is deleted; the old one stays in use.",
        'az role assignment create --role "Key Vault Secrets Officer" --assignee APP_IDENTITY'
        " --scope SCOPE_OF_VAULT_{vault}",
    ),
    (
        "mint_unavailable",
        "warning",
        True,
        "W&B or the vault did not answer in the middle of a rotation. The old key stays in use.",
        "Wait: the rotation goes on by itself.",
    ),
    (
        "mint_overtaken",
        "ok",
        False,
        "Somebody stored another key while one was being made. Theirs is in use, the one that"
        " was made is deleted.",
        "",
    ),
    (
        "mint_waits",
        "warning",
        True,
        "A new key is stored, but a newer version of the secret is not accepted; only the"
        " newest version can come into use.",
        "Disable or replace the newest version of {secret} in {vault}; "
        "its finding says what is wrong with it.",
    ),
    (
        "mint_lost",
        "warning",
        False,
        "A rotation was interrupted, so that W&B may have keys whose value nobody knows, and W&B"
        " does not show the app its keys.",
        "Delete in W&B's user settings, if they are there, the keys named: {names}",
    ),
    (
        "old_key_used",
        "ok",
        True,
        "The grace period is over, but jobs that carry their own W&B integration and began with"
        " the old key are still running. It is deleted when they have ended.",
        "",
    ),
    (
        "old_key_left",
        "warning",
        False,
        "The key from before the rotation still works: the app cannot tell for certain which of"
        " W&B's keys it is, or may not delete it.",
        "Delete in W&B's user settings the key that was stored as version {old_version}; the"
        " next rotation deletes its own.",
    ),
)
