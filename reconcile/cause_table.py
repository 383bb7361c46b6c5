"""The text of the catalogue in `causes.py`, by check: code, severity, temporary, meaning, remedy.

Only text lives here; nothing is decided.
"""

from model.finding import Severity

Row = tuple[str, Severity, bool, str, str]

_OLD_IN_USE = " A version accepted earlier stays in use (warning); without one, blocked."

TABLE: dict[str, tuple[Row, ...]] = {
    "eligible": (
        ("eligible", "ok", False, "The account can be integrated.", ""),
        (
            "kind_not_supported",
            "warning",
            False,
            "Only accounts of kind OpenAI and AIServices can fine-tune OpenAI models.",
            "Nothing to do unless this account was meant: an OpenAI account can be upgraded to"
            " AIServices, other kinds cannot be changed.",
        ),
        (
            "subscription_not_configured",
            "warning",
            False,
            "The account's subscription is not among those that are looked after.",
            "Add {subscription} to AZURE_SUBSCRIPTION_IDS if it was meant to be.",
        ),
        (
            "switched_off",
            "ok",
            False,
            "The tag wandb-integration=off keeps the account out.",
            "",
        ),
        (
            "not_opted_in",
            "ok",
            False,
            "ONBOARDING_SCOPE=tagged, and the account has no tag wandb-integration.",
            "Tag the account wandb-integration=on to take it in.",
        ),
        (
            "mode_tag_unknown",
            "blocked",
            False,
            "The tag wandb-integration has a value other than on, observe or off. What was meant"
            " is not guessed: nothing is changed and no job is relayed.",
            'az resource tag --is-incremental --ids "{account_id}" --tags wandb-integration=on',
        ),
        (
            "operation_under_way",
            "blocked",
            True,
            "An operation on the account is going on; Azure takes no change until it ends.",
            "Wait: the account is checked again by itself.",
        ),
        (
            "provisioning_failed",
            "blocked",
            False,
            "The last operation on the account failed or was cancelled.",
            "Look at the account's activity log and repeat the operation that failed.",
        ),
        (
            "no_custom_subdomain",
            "blocked",
            False,
            "The account has no custom subdomain; tokens of an identity are accepted only there,"
            " so that its jobs cannot be read.",
            'az cognitiveservices account update --subscription {subscription} -g "{group}"'
            " -n {account} --custom-domain {account}",
        ),
        (
            "account_missing",
            "ok",
            False,
            "The account does not exist (any more).",
            "",
        ),
        (
            "account_denied",
            "blocked",
            False,
            "The app may not read the account.",
            'az role assignment create --role "Cognitive Services Contributor"'
            " --assignee APP_IDENTITY --scope /subscriptions/{subscription}",
        ),
        (
            "account_refused",
            "blocked",
            False,
            "Azure refused to show the account; the code in the evidence says why.",
            "Look the code up in Azure's documentation, mend it, and call /api/resync.",
        ),
        (
            "account_unavailable",
            "blocked",
            True,
            "Azure did not answer, or asked for a pause.",
            "Wait: the account is checked again by itself.",
        ),
    ),
    "identity": (
        ("identity_on", "ok", False, "The system-assigned identity is on.", ""),
        (
            "identity_off",
            "blocked",
            False,
            "The system-assigned identity is off; without it the account cannot read the vault.",
            'az cognitiveservices account identity assign --subscription {subscription} -g "{group}"'
            " -n {account}",
        ),
        (
            "identity_pending",
            "blocked",
            True,
            "The identity was switched on and Azure has not made its principal yet.",
            "Wait: the account is checked again by itself.",
        ),
    ),
    "vault": (
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
            "The vault is not among those that tags and events may choose. Nothing is read from"
            " it.",
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
    ),
    "secret": (
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
            "The newest version is disabled." + _OLD_IN_USE,
            "az keyvault secret set-attributes --vault-name {vault} -n {secret} --enabled true",
        ),
        (
            "secret_not_yet_valid",
            "blocked",
            False,
            "The newest version is not valid yet." + _OLD_IN_USE,
            "Wait until {not_before}, or: az keyvault secret set-attributes --vault-name {vault}"
            " -n {secret} --not-before NOW",
        ),
        (
            "secret_expired",
            "blocked",
            False,
            "The newest version has expired. One that is in use goes on being used while W&B"
            " accepts it; none is taken into use. " + _OLD_IN_USE.strip(),
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
            "az keyvault set-policy -n {vault} --object-id APP_IDENTITY --secret-permissions get"
            " list",
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
            "The vault did not answer, or asked for a pause." + _OLD_IN_USE,
            "Wait: the vault is asked again by itself. If it lasts, check that {vault} exists and"
            " that the app's network resolves its name.",
        ),
    ),
    "key": (
        ("key_accepted", "ok", False, "W&B accepts the key.", ""),
        (
            "key_malformed",
            "blocked",
            False,
            "The secret's value does not have the shape of a W&B key." + _OLD_IN_USE,
            "Store the key alone, without quotes or other text: az keyvault secret set --vault-name"
            " {vault} -n {secret} --file FILE_WITH_THE_KEY",
        ),
        (
            "key_rejected",
            "blocked",
            False,
            "W&B does not accept the key: revoked, mistyped, or of another W&B." + _OLD_IN_USE,
            "Make a new key in W&B's user settings and store it: az keyvault secret set"
            " --vault-name {vault} -n {secret} --file FILE_WITH_THE_KEY --expires DATE",
        ),
        (
            "key_wrong_entity",
            "blocked",
            False,
            "W&B accepts the key, but it does not belong to the team or user that runs go to."
            + _OLD_IN_USE,
            "Store a key of a member of {wanted}, or set WANDB_ENTITY to one of the key's own.",
        ),
        (
            "key_unknown",
            "blocked",
            True,
            "W&B could not be asked, so that nothing is known about the key." + _OLD_IN_USE,
            "Wait: W&B is asked again by itself. If it lasts, check WANDB_BASE_URL and that the app"
            " reaches {wandb}.",
        ),
    ),
    "routing": (
        ("routing_ok", "ok", False, "W&B team and project are known and may be written to.", ""),
        (
            "entity_malformed",
            "blocked",
            False,
            "The tag wandb-entity (or WANDB_ENTITY) is not the name of a W&B team or user. No job"
            " is relayed, since where to is unknown.",
            "Use the name that stands in the address of its page: letters, digits, hyphens,"
            " underscores, dots.",
        ),
        (
            "project_malformed",
            "blocked",
            False,
            "The tag wandb-project is not a W&B project name. No job is relayed, since where to"
            " is unknown.",
            "Use 1-128 characters, none of / \\ # ? % :",
        ),
        (
            "entity_not_writable",
            "blocked",
            False,
            "The key in use does not belong to the W&B team or user that the account asks for.",
            "Invite the key's owner to {wanted}, or change the account's tag wandb-entity.",
        ),
    ),
    "access": (
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
    ),
    "record": (
        ("record_current", "ok", False, "The account's tags say which secret is in use.", ""),
        (
            "record_missing",
            "warning",
            False,
            "The account's tags do not say which vault and secret are in use.",
            'az resource tag --is-incremental --ids "{account_id}" --tags'
            " wandb-key-vault-url=https://{vault} wandb-secret-name={secret}",
        ),
    ),
    "portal": (
        ("portal_done", "ok", False, "Azure's own integration was set in the portal.", ""),
        (
            "portal_update",
            "manual",
            False,
            "Azure's own integration can only be set by hand, in the classic portal. The relay"
            " works without it.",
            "Open {link}, choose fine-tuning, Manage integrations, enter {vault_url} and {secret},"
            " then Update; tag the account wandb-portal-update=done.",
        ),
    ),
    "apply": (
        (
            "enable_identity_denied",
            "blocked",
            False,
            "The app may not change the account.",
            'az role assignment create --role "Cognitive Services Contributor" --assignee'
            " APP_IDENTITY --scope /subscriptions/{subscription}",
        ),
        (
            "write_record_denied",
            "blocked",
            False,
            "The app may not tag the account.",
            'az role assignment create --role "Cognitive Services Contributor" --assignee'
            " APP_IDENTITY --scope /subscriptions/{subscription}",
        ),
        (
            "grant_role_denied",
            "blocked",
            False,
            "The app may not give roles on the vault, or its own condition forbids this one.",
            'az role assignment create --role "Key Vault Data Access Administrator" --assignee'
            ' APP_IDENTITY --scope "{target}"',
        ),
        (
            "add_access_policy_denied",
            "blocked",
            False,
            "The app may not change the vault's access policies.",
            'az role assignment create --role "Key Vault Contributor" --assignee APP_IDENTITY'
            ' --scope "{target}"',
        ),
        (
            "step_refused",
            "blocked",
            False,
            "Azure refused a change for the reason whose code is in the evidence: a policy, a"
            " lock, a limit.",
            "Mend what the code says (for a policy: exempt the resource; for a lock: remove it),"
            " then call /api/resync.",
        ),
        (
            "step_target_gone",
            "blocked",
            False,
            "What was to be changed is not there any more.",
            "Nothing, if it was deleted on purpose: the next pass closes the entry.",
        ),
        (
            "step_waiting",
            "blocked",
            True,
            "Azure is not ready for a change yet, for example since a new identity has not spread"
            " to the whole directory.",
            "Wait: the change is tried again by itself.",
        ),
    ),
}
