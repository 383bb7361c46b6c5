"""Causes about the secret and the key in it.

Code, severity, whether it may pass by itself, meaning, remedy. Only text lives here.
"""

from finetune_wandb.model.cause_row import OLD_IN_USE, Row

SECRET: tuple[Row, ...] = (
    ("secret_in_date", "ok", False, "The secret is there, enabled and in date.", ""),
    (
        "secret_name_malformed",
        "blocked",
        False,
        "The tag wandb-secret-name is not a secret's name (1-127 letters, digits, hyphens).",
        "Set the tag to the secret's name, or remove it to use WANDB_SECRET_NAME.",
    ),
    (
        "secret_not_allowed",
        "blocked",
        False,
        "The secret is not among those that tags and events may choose. It is not read.",
        "Add {secret} to ALLOWED_SECRETS if it holds a W&B key; otherwise remove the account's"
        " tag wandb-secret-name.",
    ),
    (
        "secret_missing",
        "blocked",
        False,
        "The vault has no such secret, or it was deleted.",
        "az keyvault secret set --vault-name {vault} -n {secret} --file FILE_WITH_THE_KEY"
        " --expires DATE",
    ),
    (
        "secret_disabled",
        "blocked",
        False,
        "The newest version is disabled." + OLD_IN_USE,
        "az keyvault secret set-attributes --vault-name {vault} -n {secret} --enabled true",
    ),
    (
        "secret_not_yet_valid",
        "blocked",
        False,
        "The newest version is not valid yet." + OLD_IN_USE,
        "Wait until {not_before}, or: az keyvault secret set-attributes --vault-name {vault}"
        " -n {secret} --not-before NOW",
    ),
    (
        "secret_expired",
        "blocked",
        False,
        "The newest version has expired. One that is in use goes on being used while W&B"
        " accepts it; none is taken into use. " + OLD_IN_USE.strip(),
        "Put a new key into the vault: az keyvault secret set --vault-name {vault} -n {secret}"
        " --file FILE_WITH_THE_KEY --expires DATE",
    ),
    (
        "secret_no_expiry",
        "warning",
        False,
        "The secret never expires, so that Key Vault will not announce an end.",
        "az keyvault secret set-attributes --vault-name {vault} -n {secret} --expires DATE",
    ),
    (
        "secret_expires_soon",
        "warning",
        False,
        "The version in use expires within 30, 7 or 1 days.",
        "Put a new key into the vault before {expires}: az keyvault secret set --vault-name"
        " {vault} -n {secret} --file FILE_WITH_THE_KEY --expires DATE",
    ),
    (
        "secret_forbidden_by_rbac",
        "blocked",
        False,
        "The app has no role on the vault that lets it read the secret, or the role has not"
        " spread yet (up to 30 minutes).",
        'az role assignment create --role "Key Vault Secrets User" --assignee APP_IDENTITY'
        " --scope SCOPE_OF_VAULT_{vault}",
    ),
    (
        "secret_access_denied",
        "blocked",
        False,
        "The vault uses access policies and has none that lets the app read secrets.",
        "az keyvault set-policy -n {vault} --object-id APP_IDENTITY --secret-permissions get list",
    ),
    (
        "secret_forbidden_by_firewall",
        "blocked",
        False,
        "The vault's firewall refuses the app's address.",
        "Connect the app to a network that the vault allows, or: az keyvault network-rule add"
        " -n {vault} --ip-address APP_OUTBOUND_ADDRESS",
    ),
    (
        "secret_forbidden_by_connection",
        "blocked",
        False,
        "The vault answers private endpoints only, and the app came another way.",
        "Give the app's network a private endpoint of {vault} and its DNS zone"
        " privatelink.vaultcore.azure.net.",
    ),
    (
        "secret_forbidden",
        "blocked",
        False,
        "The vault refused the app for the reason whose code is in the evidence.",
        "Look the code up in Key Vault's documentation, mend it, and call /api/resync.",
    ),
    (
        "secret_unavailable",
        "blocked",
        True,
        "The vault did not answer, or asked for a pause." + OLD_IN_USE,
        "Wait: the vault is asked again by itself. If it lasts, check that {vault} exists and"
        " that the app's network resolves its name.",
    ),
)

KEY: tuple[Row, ...] = (
    ("key_accepted", "ok", False, "W&B accepts the key.", ""),
    (
        "key_malformed",
        "blocked",
        False,
        "The secret's value does not have the shape of a W&B key." + OLD_IN_USE,
        "Store the key alone, without quotes or other text: az keyvault secret set --vault-name"
        " {vault} -n {secret} --file FILE_WITH_THE_KEY",
    ),
    (
        "key_rejected",
        "blocked",
        False,
        "W&B does not accept the key: revoked, mistyped, or of another W&B." + OLD_IN_USE,
        "Make a new key in W&B's user settings and store it: az keyvault secret set"
        " --vault-name {vault} -n {secret} --file FILE_WITH_THE_KEY --expires DATE",
    ),
    (
        "key_wrong_entity",
        "blocked",
        False,
        "W&B accepts the key, but it does not belong to the team or user that runs go to."
        + OLD_IN_USE,
        "Store a key of a member of {wanted}, or set WANDB_ENTITY to one of the key's own.",
    ),
    (
        "key_read_only",
        "blocked",
        False,
        "W&B accepts the key, but its owner may only read the project that runs go to."
        + OLD_IN_USE,
        "Give the key's owner write access to {entity}/{project} in W&B, or store a key of"
        " somebody who has it.",
    ),
    (
        "key_unknown",
        "blocked",
        True,
        "W&B could not be asked, so that nothing is known about the key." + OLD_IN_USE,
        "Wait: W&B is asked again by itself. If it lasts, check WANDB_BASE_URL and that the app"
        " reaches {wandb}.",
    ),
)
