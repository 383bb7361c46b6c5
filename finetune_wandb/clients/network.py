"""The customer's network between the app and the services: proxies, certificate authorities, causes.

Settings are the usual environment variables: HTTPS_PROXY, HTTP_PROXY and NO_PROXY; SSL_CERT_FILE
or REQUESTS_CA_BUNDLE. A proxy's address can hold a password, which appears in no error.
"""

import base64
import os
import ssl
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

_DIRECT: Final[Mapping[str, Any]] = {}
_BUNDLES: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


def share_ca_bundle() -> None:
    """Let one of the two variables for a certificate bundle stand for both.

    OpenSSL and W&B's service read the one, `requests`, which exporters and the wandb SDK use, the
    other. To be called before aiohttp is imported: it reads the bundle once, with its import.
    """
    found = next((os.environ[name] for name in _BUNDLES if os.environ.get(name)), "")
    for name in _BUNDLES if found else ():
        os.environ.setdefault(name, found)


class Proxies:
    """The proxies that the environment names, as they are at the first look."""

    def __init__(self) -> None:
        self._known: dict[str, str] = getproxies()

    def arguments(self, url: str) -> Mapping[str, Any]:
        """Return what an aiohttp request for this URL is given to go by its proxy, if it has one."""
        if not self._known:
            return _DIRECT
        asked = urlsplit(url)
        proxy = self._known.get(asked.scheme)
        if not proxy or proxy_bypass(asked.hostname or ""):
            return _DIRECT
        if asked.scheme != "https":
            return {"proxy": proxy}
        # aiohttp's errors repeat the address of a proxy that refuses a tunnel.
        address, headers = _without_password(proxy)
        return {"proxy": address, "proxy_headers": headers}


def _without_password(proxy: str) -> tuple[str, dict[str, str]]:
    parts = urlsplit(proxy)
    login, at, host = parts.netloc.rpartition("@")
    if not at:
        return proxy, {}
    basic = base64.b64encode(unquote(login).encode()).decode()
    return urlunsplit(parts._replace(netloc=host)), {"Proxy-Authorization": f"Basic {basic}"}


def cause_of(error: BaseException, service: str) -> tuple[str, str, str]:
    """Return code, text and remedy for a request that brought no answer.

    An SDK's error is looked through to what it was made of. Texts of foreign errors are not
    repeated: they can hold addresses with passwords.
    """
    import aiohttp

    inner = getattr(error, "inner_exception", None) or error
    if isinstance(inner, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
        return (
            "Certificate",
            f"the certificate shown for {service} is not trusted",
            "where a proxy of your network opens TLS, set SSL_CERT_FILE to a PEM file that holds"
            " its certificate authority beside the public ones",
        )
    if isinstance(inner, aiohttp.ClientHttpProxyError):
        return (
            "Proxy",
            f"the proxy refused the way to {service} ({inner.status})",
            "check user and password in HTTPS_PROXY"
            if inner.status == 407
            else f"let the proxy of HTTPS_PROXY pass {service}, or name its host in NO_PROXY",
        )
    if isinstance(inner, aiohttp.ClientProxyConnectionError):
        return (
            "Proxy",
            f"the proxy on the way to {service} does not answer",
            "check HTTPS_PROXY and HTTP_PROXY, or name the service's host in NO_PROXY",
        )
    return (
        "Unreachable",
        f"{service} did not answer ({type(error).__name__})",
        f"retried automatically; if it lasts, check that the app can reach {service}",
    )
