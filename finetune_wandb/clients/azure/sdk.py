"""Options of every Azure SDK client of the app: transport, retries, no redirects.

Imported with the first SDK client, to keep azure-core out of a cold start.
"""

from typing import Any
from urllib.parse import urlsplit

from azure.core.pipeline.policies import AsyncRetryPolicy
from azure.core.pipeline.transport import AioHttpTransport

from finetune_wandb.clients.transport import Transport

LONGEST_PAUSE_S = 5.0


def sdk_options(transport: Transport) -> dict[str, Any]:
    """Return keyword arguments for an SDK client."""
    return {
        "transport": SeamTransport(transport),
        "retry_policy": BoundedRetryPolicy(
            retry_total=3,
            retry_connect=2,
            retry_read=2,
            retry_status=3,
            retry_backoff_factor=0.3,
            retry_backoff_max=3,
            timeout=20,
        ),
        # A credential must not travel to a host that an answer names.
        "permit_redirects": False,
    }


class SeamTransport(AioHttpTransport):  # type: ignore[misc]  # azure-core loads it lazily, untyped
    """azure-core's transport over the process's own session, proxies and addresses.

    Lies below the SDKs' own retry, authentication and logging policies.
    """

    def __init__(self, seam: Transport) -> None:
        super().__init__(session=seam.session(), session_owner=False)
        self._seam = seam

    async def send(self, request: Any, **config: Any) -> Any:
        asked = request.url
        request.url = self._seam.url(asked)
        status = 0
        try:
            answer = await super().send(request, **config, **self._seam.by_proxy(request.url))
            status = answer.status_code
            return answer
        finally:
            # The service's domain stands for it, without the name of one resource.
            host = urlsplit(asked).hostname or ""
            domain = host if host.startswith("management.") else host.partition(".")[2]
            self._seam.on_call(domain or host, status)
            # Policies above compare and log the original URL.
            request.url = asked


class BoundedRetryPolicy(AsyncRetryPolicy[Any, Any]):
    """azure-core's policy, except that it does not wait for more than a few seconds.

    The SDKs' policy sleeps for as long as `Retry-After` says, even minutes; a sleeping worker is
    paid for. A longer pause becomes an error for the caller.
    """

    def is_retry(self, settings: dict[str, Any], response: Any) -> bool:
        """Return whether to try again: never after a pause that is too long."""
        pause = self.get_retry_after(response)
        if pause is not None and pause > LONGEST_PAUSE_S:
            return False
        return bool(super().is_retry(settings, response))
