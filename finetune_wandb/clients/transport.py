"""The one seam between the app and the outside: Azure itself, or the sandbox in its place.

Decides where a request for a host really goes, by which proxy, and which credential it carries.
With a sandbox, `https://HOST/PATH` goes to `SANDBOX_URL/_host/HOST/PATH`; the rewriting happens
below the SDKs' authentication policies, so they run unchanged. The customer's network is set by
the usual environment variables: HTTPS_PROXY, HTTP_PROXY and NO_PROXY; SSL_CERT_FILE or
REQUESTS_CA_BUNDLE. A proxy's address can hold a password, which appears in no error.
"""

import asyncio
import base64
import os
import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

import orjson

from finetune_wandb.clients.translate import translated

if TYPE_CHECKING:
    import aiohttp
    from azure.core.credentials import AccessToken

_TOKEN_MARGIN_S = 300.0
SANDBOX_PRINCIPAL = "00000000-0000-0000-0000-00000000a99a"
"""Object id that the app's identity has in the sandbox."""
_BUNDLES: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


def share_ca_bundle() -> None:
    """Let one of the two variables for a certificate bundle stand for both.

    OpenSSL and W&B's service read the one, `requests`, which exporters use, the
    other. Call it before aiohttp is imported, which reads the bundle once.
    """
    found = next((os.environ[name] for name in _BUNDLES if os.environ.get(name)), "")
    for name in _BUNDLES if found else ():
        os.environ.setdefault(name, found)


class Transport:
    """Owns the shared HTTP session, the credential and the token cache of one process."""

    def __init__(
        self,
        sandbox_url: str = "",
        client_id: str = "",
        *,
        on_call: Callable[[str, int], None] = lambda service, status: None,
    ) -> None:
        """`client_id` names a user-assigned identity; empty takes the system-assigned one.

        `on_call` gets service and status of each answer; status 0 without an answer.
        """
        self.on_call = on_call
        self._sandbox_url = sandbox_url
        self._client_id = client_id
        self._session: aiohttp.ClientSession | None = None
        self._credential: Any = None
        self._sdk_clients: dict[Any, Any] = {}
        self._tokens: dict[str, tuple[str, float]] = {}
        self._token_locks: dict[str, asyncio.Lock] = {}

    def url(self, url: str) -> str:
        """Return the address to which a request for an Azure URL is sent."""
        return f"{self._sandbox_url}/_host/{url.partition('://')[2]}" if self._sandbox_url else url

    def session(self) -> "aiohttp.ClientSession":
        """Return the process's one HTTP session, which the Azure SDKs share.

        Certificate bundles come from the usual environment variables (SSL_CERT_FILE); proxies
        are looked up by `by_proxy`, since the session's own way would also read ~/.netrc and could
        put another credential in place of ours.
        """
        if self._session is None:
            import aiohttp

            self._session = aiohttp.ClientSession(
                # More connections cost more to open than they gain.
                connector=aiohttp.TCPConnector(
                    limit=64,
                    ttl_dns_cache=300,
                    # The timer fires every minute; connections should last from tick to tick.
                    keepalive_timeout=90,
                ),
                timeout=aiohttp.ClientTimeout(total=60, sock_connect=10, sock_read=30),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    def by_proxy(self, url: str) -> dict[str, Any]:
        """Return the arguments that send a request through its proxy, empty without one."""
        if not self._proxies:
            return {}
        asked = urlsplit(url)
        proxy = self._proxies.get(asked.scheme)
        if not proxy or proxy_bypass(asked.hostname or ""):
            return {}
        parts = urlsplit(proxy)
        login, at, host = parts.netloc.rpartition("@")
        if asked.scheme != "https" or not at:
            return {"proxy": proxy}
        # aiohttp's errors repeat the address of a proxy that refuses a tunnel.
        basic = base64.b64encode(unquote(login).encode()).decode()
        address = urlunsplit(parts._replace(netloc=host))
        return {"proxy": address, "proxy_headers": {"Proxy-Authorization": f"Basic {basic}"}}

    @cached_property
    def _proxies(self) -> dict[str, str]:
        """The proxies that the environment names, read once."""
        return getproxies()

    def credential(self) -> Any:
        """Return the credential that the Azure SDK clients take."""
        if self._credential is None and self._sandbox_url:
            self._credential = _SandboxCredential()
        elif self._credential is None:
            from azure.identity.aio import DefaultAzureCredential, ManagedIdentityCredential

            named = self._client_id
            self._credential = (
                ManagedIdentityCredential(client_id=named) if named else DefaultAzureCredential()
            )
        return self._credential

    def sdk_client[C](self, kind: Callable[..., C], **place: Any) -> C:
        """Return the process's one SDK client of this class for a place, created when first needed.

        `place` holds the client's own arguments: a subscription, a vault's URL, a topic's endpoint.
        """
        key = (kind, *place.items())
        if key not in self._sdk_clients:
            from finetune_wandb.clients.azure.sdk import sdk_options

            self._sdk_clients[key] = kind(
                credential=self.credential(), **place, **sdk_options(self)
            )
        client: C = self._sdk_clients[key]
        return client

    async def token(self, scope: str) -> str:
        """Return a bearer token, kept until five minutes before its end. Raises our errors."""
        async with self._token_locks.setdefault(scope, asyncio.Lock()):
            token, expires = self._tokens.get(scope, ("", 0.0))
            if expires - time.time() <= _TOKEN_MARGIN_S:
                with translated(scope, "Microsoft Entra"):
                    made = await self.credential().get_token(scope)
                token, expires = made.token, float(made.expires_on)
                self._tokens[scope] = (token, expires)
            return token

    async def principal_id(self) -> str:
        """Return the object id of the app's own identity, in lower case."""
        token = await self.token("https://management.azure.com/.default")
        payload = token.split(".")[1]
        claims = orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return str(claims.get("oid", "")).lower()

    async def close(self) -> None:
        """Close the session and the credential."""
        if self._session is not None:
            await self._session.close()
        if self._credential is not None:
            await self._credential.close()


class _SandboxCredential:
    """A token from which the sandbox reads the caller; worthless anywhere else."""

    async def get_token(self, *scopes: str, **_: Any) -> "AccessToken":
        from azure.core.credentials import AccessToken

        expires = int(time.time()) + 3600
        claims = {
            "oid": SANDBOX_PRINCIPAL,
            "appid": SANDBOX_PRINCIPAL,
            "aud": scopes[0].removesuffix("/.default"),
            "exp": expires,
        }
        parts = (
            base64.urlsafe_b64encode(orjson.dumps(part)).rstrip(b"=").decode()
            for part in ({"alg": "none", "typ": "JWT"}, claims)
        )
        return AccessToken(".".join((*parts, "sandbox")), expires)

    async def close(self) -> None:
        """Nothing is held open."""
