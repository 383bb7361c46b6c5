"""The Azure SDKs' transport with the seam's address in place of the host's.

Lies below the SDKs' own retry, authentication and logging policies. Redirects are not
followed: a credential must not travel to a host that an answer names.
"""

from collections.abc import Callable
from typing import Any

from azure.core.pipeline.transport import AioHttpTransport


class SeamTransport(AioHttpTransport):  # type: ignore[misc]  # azure-core loads it lazily, untyped
    """azure-core's own aiohttp transport; only the address is looked up first."""

    def __init__(self, address_of: Callable[[str], str]) -> None:
        super().__init__()
        self._address_of = address_of

    async def send(self, request: Any, **config: Any) -> Any:
        asked = request.url
        request.url = self._address_of(asked)
        try:
            return await super().send(request, **config)
        finally:
            # Policies above compare and log the URL that was meant.
            request.url = asked
