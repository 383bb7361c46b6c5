"""Causes about the vault and who has access to it.

Code, severity, whether it may pass by itself, meaning, remedy. Only text lives here.
"""

from finetune_wandb.model.cause_row import Row

VAULT: tuple[Row, ...] = (
    ("vault_rbac", "ok", False, "The vault exists and uses Azure RBAC.", ""),
    (
        "vault_policies",
        "warning",
        False,
        "The vault uses access policies. That works; Microsoft recommends Azure RBAC. The app"
        " never changes the model by itself, since that would cut off others.",
        "When everybody who uses the vault has a role on it: az keyvault update"
        " --subscription {subscription} -n {vault} --enable-rbac-authorization true",
    ),
    (
        "vault_url_malformed",
        "blocked",
        False,
        "The tag wandb-key-vault-url is not the URL of a key vault.",
        "Set the tag to https://NAME.vault.azure.net, or remove it to use the default vault.",
    ),
    (
        "vault_not_allowed",
        "blocked",
        False,
        "The vault is not among those that tags and events may choose. Nothing is read from it.",
        "Add {vault} to ALLOWED_VAULTS if it is trusted; otherwise remove the account's tag"
        " wandb-key-vault-url.",
    ),
    (
        "vault_missing",
        "blocked",
        False,
        "No subscription in AZURE_SUBSCRIPTION_IDS has this vault, or the app may not see it.",
        "Add the vault's subscription to AZURE_SUBSCRIPTION_IDS, and give the app the role"
        " Reader on the vault {vault}; if it does not exist, create it or correct the name.",
    ),
    (
        "vault_soft_deleted",
        "blocked",
        False,
        "The vault was deleted and can be recovered. Recovery does not bring back its role"
        " assignments and event subscriptions; the next pass re-asserts the former.",
        "az keyvault recover -n {vault}",
    ),
    (
        "vault_denied",
        "blocked",
        False,
        "The app may not list the vaults of a subscription.",
        "az role assignment create --role Reader --assignee APP_IDENTITY --scope"
        " SCOPE_OF_VAULT_{vault}",
    ),
    (
        "vault_refused",
        "blocked",
        False,
        "Azure refused to show the vault; the code in the evidence says why.",
        "Look the code up in Azure's documentation, mend it, and call /api/resync.",
    ),
    (
        "vault_unavailable",
        "blocked",
        True,
        "Azure did not answer when asked for the vault, or asked for a pause.",
        "Wait: the account is checked again by itself.",
    ),
    (
        "vault_other_tenant",
        "blocked",
        False,
        "The vault belongs to another Microsoft Entra tenant than the account; a managed"
        " identity has no rights outside its own tenant.",
        "Use a vault in tenant {tenant} and name it in KEY_VAULT_URL or the account's tag"
        " wandb-key-vault-url.",
    ),
    (
        "vault_network_closed",
        "warning",
        False,
        "The vault's firewall or private endpoint keeps out networks that are not listed, so"
        " that Azure's own integration may not reach it. The relay reads the key itself and"
        " is not affected.",
        "az keyvault update --subscription {subscription} -n {vault} --bypass AzureServices"
        " lets trusted services in; a vault without public access needs a private endpoint.",
    ),
)

ACCESS: tuple[Row, ...] = (
    ("access_granted", "ok", False, "The account's identity may read the secret.", ""),
    (
        "access_missing",
        "blocked",
        False,
        "The account's identity has no role that lets it read the secret.",
        'az role assignment create --role "{role}" --assignee-object-id {principal}'
        ' --assignee-principal-type ServicePrincipal --scope "{scope}"',
    ),
    (
        "access_policy_missing",
        "blocked",
        False,
        "The vault uses access policies and has none for the account's identity.",
        "az keyvault set-policy --subscription {subscription} -n {vault} --object-id"
        " {principal} --secret-permissions get list",
    ),
    (
        "access_policy_incomplete",
        "blocked",
        False,
        "The access policy of the account's identity lacks get or list on secrets.",
        "az keyvault set-policy --subscription {subscription} -n {vault} --object-id"
        " {principal} --secret-permissions get list",
    ),
    (
        "access_stronger_than_asked",
        "warning",
        False,
        "The account's identity may do more with secrets than VAULT_ROLE says.",
        "Remove what is too much (for an assignment: az role assignment delete --ids"
        ' "{assignment}"), or set VAULT_ROLE to what is wanted.',
    ),
    (
        "access_wider_than_asked",
        "warning",
        False,
        "The account's identity has its role on more than the one secret, while"
        " VAULT_ROLE_SCOPE=secret.",
        'az role assignment delete --ids "{assignment}"',
    ),
    (
        "access_orphaned",
        "warning",
        False,
        "A role that the app gave this account is held by an identity that the account no"
        " longer has: its identity was switched off and on again.",
        'az role assignment delete --ids "{assignment}"',
    ),
    (
        "access_denied",
        "blocked",
        False,
        "The app may not read who has a role on the vault.",
        'az role assignment create --role "Key Vault Data Access Administrator" --assignee'
        ' APP_IDENTITY --scope "{scope}"',
    ),
    (
        "access_refused",
        "blocked",
        False,
        "Azure refused to list the vault's role assignments; the code says why.",
        "Look the code up in Azure's documentation, mend it, and call /api/resync.",
    ),
    (
        "access_unavailable",
        "blocked",
        True,
        "Azure did not answer when asked who has a role on the vault.",
        "Wait: the account is checked again by itself.",
    ),
)
