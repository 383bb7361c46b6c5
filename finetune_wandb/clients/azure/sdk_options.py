"""What every Azure SDK client of the app is made with: transport, retries, no redirects."""

from typing import Any

from finetune_wandb.clients.transport import Transport


def sdk_options(transport: Transport) -> dict[str, Any]:
    """Return keyword arguments for an SDK client, new for each client: it closes its transport."""
    from finetune_wandb.clients.azure.sdk_retry import BoundedRetryPolicy

    return {
        "transport": transport.sdk_transport(),
        "retry_policy": BoundedRetryPolicy(),
        # A credential must not travel to a host that an answer names.
        "permit_redirects": False,
    }
