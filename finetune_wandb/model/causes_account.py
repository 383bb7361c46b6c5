"""Causes about the account itself, its identity, record and routing, and about changes.

Code, severity, whether it may pass by itself, meaning, remedy. Only text lives here.
"""

from finetune_wandb.model.cause_row import Row

ELIGIBLE: tuple[Row, ...] = (
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
)

IDENTITY: tuple[Row, ...] = (
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
)

ROUTING: tuple[Row, ...] = (
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
)

RECORD: tuple[Row, ...] = (
    ("record_current", "ok", False, "The account's tags say which secret is in use.", ""),
    (
        "record_missing",
        "warning",
        False,
        "The account's tags do not say which vault and secret are in use.",
        'az resource tag --is-incremental --ids "{account_id}" --tags'
        " wandb-key-vault-url=https://{vault} wandb-secret-name={secret}",
    ),
)

PORTAL: tuple[Row, ...] = (
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
)

APPLY: tuple[Row, ...] = (
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
)
