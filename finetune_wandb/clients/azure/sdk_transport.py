"""The Azure SDKs' transport with the seam's address in place of the host's.

Lies below the SDKs' own retry, authentication and logging policies. Redirects are not
followed: a credential must not travel to a host that an answer names.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from azure.core.pipeline.transport import AioHttpTransport


class SeamTransport(AioHttpTransport):  # type: ignore[misc]  # azure-core loads it lazily, untyped
    """azure-core's own aiohttp transport; only the address is looked up first."""

    def __init__(
        self, address_of: Callable[[str], str], on_call: Callable[[str, int], None]
    ) -> None:
        super().__init__(use_env_settings=needs_environment())
        self._address_of = address_of
        self._on_call = on_call

    async def send(self, request: Any, **config: Any) -> Any:
        asked = request.url
        request.url = self._address_of(asked)
        status = 0
        try:
            answer = await super().send(request, **config)
            status = answer.status_code
            return answer
        finally:
            self._on_call(_service(asked), status)
            # Policies above compare and log the URL that was meant.
            request.url = asked


def needs_environment() -> bool:
    """Say whether the SDKs' transport must look at the environment for each request.

    Only a proxy is a reason to: the look costs two thread hops a request, and takes a ~/.netrc
    that names the host for another credential of ours.
    """
    return bool(getproxies())


def _service(url: str) -> str:
    """Return which service a URL belongs to: its domain, without the name of one resource."""
    host = urlsplit(url).hostname or ""
    return host if host.startswith("management.") else host.partition(".")[2] or host
