"""The function app's own storage account, or Azurite: address, credential and requests.

Reads the same settings as the Functions host (`AzureWebJobsStorage`, or its identity-based
parts), so that the app can never use another storage account than its triggers. Requests are
spoken directly: the SDKs cost several times the CPU of the requests themselves and a second of
import (docs/performance.md, "Storage").

Source: "Authorize with Shared Key", section Shared Key Lite, "Authorize with Microsoft Entra ID"
and "Delegate access with a shared access signature" of the Storage services REST reference,
checked 2026-11-24; held by contract tests against Azurite.
"""

import base64
import contextlib
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Final, Literal
from urllib.parse import urlsplit

from finetune_wandb.clients.http import Answer, Http, error_code
from finetune_wandb.clients.transport import Transport
from finetune_wandb.model.errors import (
    AppError,
    ConflictError,
    DeniedError,
    MissingError,
    SettingsError,
)

_TRY_S: Final = 10.0
"""Each try of a request: storage in the same region answers in milliseconds, and a connection that
was cut must not hold its message up for minutes."""
_NAME: Final = "AzureWebJobsStorage"
_REMEDY: Final = (
    f"set {_NAME}__accountName to the app's storage account, to use the app's identity, or {_NAME}"
    " to a connection string with a key or a shared access signature"
)
_SCOPE: Final = "https://storage.azure.com/.default"
_VERSION: Final = "2019-02-02"
_EMULATOR: Final = (
    "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey="
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;"
    "QueueEndpoint=http://127.0.0.1:10001/devstoreaccount1;"
    "TableEndpoint=http://127.0.0.1:10002/devstoreaccount1;"
)
"""What the shorthand stands for. The emulator's account and key are public and the same everywhere."""


@dataclass(frozen=True, slots=True)
class StorageAddress:
    """A connection string, or the two service URLs to use with the app's identity."""

    connection_string: str = field(default="", repr=False)
    """Holds the account's key."""
    table_url: str = ""
    queue_url: str = ""


def read_address(source: Mapping[str, str]) -> StorageAddress:
    """Return the storage account that the host's settings name. Raises SettingsError for none."""
    if connection := source.get(_NAME, ""):
        is_short = connection.strip().rstrip(";").lower() == "usedevelopmentstorage=true"
        return StorageAddress(connection_string=_EMULATOR if is_short else connection)
    account = source.get(f"{_NAME}__accountName", "")
    table, queue = (
        source.get(f"{_NAME}__{kind}ServiceUri")
        or (f"https://{account}.{kind}.core.windows.net" if account else "")
        for kind in ("table", "queue")
    )
    if not table or not queue:
        raise SettingsError("names no storage account", subject=_NAME, remedy=_REMEDY)
    return StorageAddress(table_url=table, queue_url=queue)


async def made_first[T](
    make: Callable[[], Awaitable[object]], write: Callable[[], Awaitable[T]]
) -> T:
    """Write; where what is written to is not there, `make` it first, unless another just did."""
    with contextlib.suppress(MissingError):
        return await write()
    try:
        await make()
    except ConflictError as error:
        if not error.code.endswith("AlreadyExists"):
            raise
    return await write()


@dataclass(frozen=True, slots=True)
class Storage:
    """One storage account, over the process's shared session."""

    address: StorageAddress
    transport: Transport
    unread: dict[tuple[str, str], int] = field(default_factory=dict)
    """By table and filter: rows that the last query could not read, see `Table.items`."""


class StorageService:
    """Authorized requests for one table or queue, each try with a fresh signature."""

    def __init__(
        self, storage: Storage, kind: Literal["table", "queue"], name: str, headers: dict[str, str]
    ) -> None:
        """`headers` go with every request."""
        self._address, self._transport = storage.address, storage.transport
        self._kind = kind
        self._name = name
        self._headers = headers
        service = f"{kind.title()} storage"
        self._http = Http(storage.transport, service, self._explain, timeout_s=_TRY_S)

    @cached_property
    def endpoint(self) -> str:
        """Address of the service, without a slash at its end. Raises SettingsError."""
        if not self._address.connection_string:
            urls = {"table": self._address.table_url, "queue": self._address.queue_url}
            return urls[self._kind].rstrip("/")
        parts = self._parts
        if named := parts.get(f"{self._kind.title()}Endpoint"):
            return named.rstrip("/")
        protocol = parts.get("DefaultEndpointsProtocol", "https")
        suffix = parts.get("EndpointSuffix", "core.windows.net")
        return f"{protocol}://{parts.get('AccountName')}.{self._kind}.{suffix}"

    async def request[T](
        self,
        method: str,
        path: str,
        read: Callable[[Answer], T],
        *,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> T:
        """Send a request to `path` (query included) and return what `read` makes of the answer.

        Raises our errors: ConflictError for 409 and 412, MissingError for 404.
        """
        url = f"{self.endpoint}/{path}"
        if signature := self._parts.get("SharedAccessSignature"):
            url += f"{'&' if '?' in path else '?'}{signature.lstrip('?')}"

        async def current() -> Mapping[str, str]:
            return {**self._headers, **(headers or {}), **await self._authorized(method, url)}

        return await self._http.request(
            method, url, read, headers=current, body=body, subject=self._name
        )

    @cached_property
    def _parts(self) -> dict[str, str]:
        text = self._address.connection_string
        parts = dict(part.split("=", 1) for part in text.split(";") if "=" in part)
        has_key = parts.get("AccountName") and "AccountKey" in parts
        if text and not has_key and not parts.get("SharedAccessSignature"):
            text = "is a connection string without a key or a shared access signature"
            raise SettingsError(text, subject=_NAME, remedy=_REMEDY)
        return parts

    async def _authorized(self, method: str, url: str) -> dict[str, str]:
        """Return the headers that authorize a request. Raises our errors where no token is had."""
        now = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        dated = {"x-ms-date": now, "x-ms-version": _VERSION}
        if not self._address.connection_string:
            return {**dated, "Authorization": f"Bearer {await self._transport.token(_SCOPE)}"}
        if "SharedAccessSignature" in self._parts:
            return dated
        account, address = self._parts["AccountName"], urlsplit(url)
        text = f"{now}\n"
        if self._kind == "queue":
            named = "".join(f"{name}:{value}\n" for name, value in dated.items())
            text = f"{method}\n\n{self._headers['Content-Type']}\n\n{named}"
        comp = [f"?{part}" for part in address.query.split("&") if part.startswith("comp=")]
        text += f"/{account}{address.path}{''.join(comp)}"
        key = base64.b64decode(self._parts["AccountKey"])
        mark = base64.b64encode(hmac.digest(key, text.encode(), hashlib.sha256)).decode()
        return {**dated, "Authorization": f"SharedKeyLite {account}:{mark}"}

    def _explain(self, answer: Answer, subject: str) -> AppError | None:
        code = error_code(answer) or str(answer.status)
        if answer.status in (409, 412):
            text = f"another writer came first ({code})"
            return ConflictError(text, subject=subject, code=code)
        if answer.status == 403:
            return DeniedError(
                f"the app may not use its storage account's {self._kind}s ({code})",
                subject=subject,
                code=code,
                remedy=f"give the app's identity the role Storage {self._kind.title()} Data"
                " Contributor on the storage account, and let the app through its firewall",
            )
        return None
