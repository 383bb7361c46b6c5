"""Addresses and credentials of requests to the storage account that are spoken directly.

With the app's identity a bearer token; with a connection string, as Azurite needs it, the
account's key signs each request.

Source: "Authorize with Shared Key", section Shared Key Lite, and "Authorize with Microsoft Entra
ID" of the Storage services REST reference; held by contract tests against Azurite.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import Final, Literal
from urllib.parse import urlsplit

from finetune_wandb.clients.storage.service import Storage, StorageAddress
from finetune_wandb.model.errors import SettingsError

Service = Literal["table", "queue"]
_SCOPE: Final = "https://storage.azure.com/.default"
_VERSION: Final = "2019-02-02"


class StorageAuth:
    """Credentials for one of the account's services."""

    def __init__(self, storage: Storage, service: Service) -> None:
        self._address = storage.address
        self._transport = storage.transport
        self._service = service

    @cached_property
    def endpoint(self) -> str:
        """Address of the service, without a slash at its end. Raises SettingsError."""
        if self._address.connection_string:
            return _endpoint(self._parts, self._service).rstrip("/")
        urls = {"table": self._address.table_url, "queue": self._address.queue_url}
        return urls[self._service].rstrip("/")

    @cached_property
    def _parts(self) -> dict[str, str]:
        return _parts(self._address)

    @cached_property
    def _key(self) -> bytes:
        return base64.b64decode(self._parts["AccountKey"])

    async def headers(self, method: str, url: str) -> dict[str, str]:
        """Return the headers that let a request in; one to a queue must not have a body.

        Raises our errors where there is no token or no key.
        """
        now = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        signed = {"x-ms-date": now, "x-ms-version": _VERSION}
        if not self._address.connection_string:
            return {**signed, "Authorization": f"Bearer {await self._transport.token(_SCOPE)}"}
        account = self._parts["AccountName"]
        text = _text_to_sign(self._service, method, url, signed, account)
        mark = base64.b64encode(hmac.digest(self._key, text.encode(), hashlib.sha256)).decode()
        return {**signed, "Authorization": f"SharedKeyLite {account}:{mark}"}


def _text_to_sign(
    service: Service, method: str, url: str, signed: Mapping[str, str], account: str
) -> str:
    address = urlsplit(url)
    resource = f"/{account}{address.path}"
    for parameter in address.query.split("&"):
        if parameter.startswith("comp="):
            resource += f"?{parameter}"
    if service == "table":
        return f"{signed['x-ms-date']}\n{resource}"
    named = "".join(f"{name}:{value}\n" for name, value in signed.items())
    return f"{method}\n\n\n\n{named}{resource}"


def _parts(address: StorageAddress) -> dict[str, str]:
    parts = dict(part.split("=", 1) for part in address.connection_string.split(";") if "=" in part)
    if not parts.get("AccountName") or not parts.get("AccountKey"):
        raise SettingsError(
            "is a connection string without the account's name and key",
            subject="AzureWebJobsStorage",
            remedy="set AzureWebJobsStorage__accountName to the app's storage account, to use the"
            " app's identity",
        )
    return parts


def _endpoint(parts: Mapping[str, str], service: Service) -> str:
    return parts.get(f"{service.title()}Endpoint") or (
        f"{parts.get('DefaultEndpointsProtocol', 'https')}://{parts['AccountName']}.{service}."
        f"{parts.get('EndpointSuffix', 'core.windows.net')}"
    )
