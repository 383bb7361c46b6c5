"""The Azure SDKs' retry policy, bounded: clients retry for seconds, the host for longer.

The SDKs' own policy sleeps for as long as `Retry-After` says, minutes included; a worker that
sleeps is paid for and does nothing. A longer pause is left to the caller as an error.
"""

from typing import Any

from azure.core.pipeline.policies import AsyncRetryPolicy

LONGEST_PAUSE_S = 5.0


class BoundedRetryPolicy(AsyncRetryPolicy[Any, Any]):
    """azure-core's policy, except that it does not wait for more than a few seconds."""

    def __init__(self) -> None:
        super().__init__(
            retry_total=3,
            retry_connect=2,
            retry_read=2,
            retry_status=3,
            retry_backoff_factor=0.3,
            retry_backoff_max=3,
            timeout=20,
        )

    def is_retry(self, settings: dict[str, Any], response: Any) -> bool:
        """Return whether to try again, which a pause too long forbids."""
        pause = self.get_retry_after(response)
        if pause is not None and pause > LONGEST_PAUSE_S:
            return False
        return bool(super().is_retry(settings, response))
