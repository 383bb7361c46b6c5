"""Official SDKs against the sandbox: a transport that sends each host's requests to its port.

The rewriting happens at the very end of the pipeline, so every policy of an SDK, the ones that
insist on https included, sees the real address.
"""

from typing import Any

from azure.core.credentials import AccessToken
from azure.core.pipeline.transport import AioHttpTransport


class SandboxTransport(AioHttpTransport):
    """Sends https://HOST/PATH to BASE_URL/_host/HOST/PATH."""

    def __init__(self, base_url: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._base_url = base_url.rstrip("/")

    async def send(self, request: Any, **config: Any) -> Any:
        address = request.url
        scheme, _, rest = address.partition("://")
        assert scheme == "https", address
        request.url = f"{self._base_url}/_host/{rest}"
        try:
            return await super().send(request, **config)
        finally:
            # Retries, paging and polling go on from the address that they know.
            request.url = address


class AnyCredential:
    """A fixed token, by default one that is no JWT: the sandbox must take any."""

    def __init__(self, token: str = "any") -> None:
        self._token = token

    async def get_token(self, *scopes: str, **kwargs: Any) -> AccessToken:
        return AccessToken(self._token, 4_000_000_000)

    async def close(self) -> None:
        pass

    async def __aenter__(self) -> "AnyCredential":
        return self

    async def __aexit__(self, *args: object) -> None:
        pass
