"""What the host is configured by: host.json, the settings file, and the errors that stop a start.

Of host.json only what changes behaviour locally is read; extension bundles, telemetry and scale
belong to the cloud. Defaults are those of the Functions v4 host on Flex Consumption. Environment
variables win over `local.settings.json`, which stands in for the cloud's app settings; without
that file `local.settings.sample.json` is used. The storage shorthand
`UseDevelopmentStorage=true` is spelled out here, so that neither app nor SDKs need to know on
which ports Azurite listens.
"""

import json
import logging
import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class HostError(Exception):
    """The host cannot start; the text says what is wrong and where to put it right."""

    exit_code = 1


class ConfigError(HostError):
    """A settings file, host.json or a binding says something the host cannot follow."""

    exit_code = 2


class IndexingError(HostError):
    """The worker library refused the app."""

    exit_code = 1


class PortTakenError(HostError):
    """Another process listens on the wanted port."""

    exit_code = 3


_TIME_SPAN = re.compile(r"(?:(\d+)\.)?(\d{1,2}):(\d{2}):(\d{2}(?:\.\d{1,7})?)")
_LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "information": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
    "none": logging.CRITICAL + 1,
}


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """`extensions.queues`; times in seconds."""

    batch_size: int = 16
    new_batch_threshold: int = 8
    max_dequeue_count: int = 5
    visibility_timeout: float = 0.0
    """Delay before a message whose function failed is shown again."""
    max_polling_interval: float = 60.0
    base64: bool = True


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """`extensions.http`; None means no limit."""

    route_prefix: str = "api"
    max_concurrent: int | None = None
    max_outstanding: int | None = None


@dataclass(frozen=True, slots=True)
class HostConfig:
    """host.json as far as the local host follows it."""

    queues: QueueOptions
    http: HttpOptions
    function_timeout: float | None
    """Seconds that one invocation may take; None means no limit."""
    log_level: int


def read_host_json(app: Path) -> HostConfig:
    """Read APP/host.json. Raises ConfigError naming the field that is missing or malformed."""
    path = app / "host.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise ConfigError(f"{app} is not a Functions app: it has no host.json") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(document, dict) or document.get("version") != "2.0":
        raise ConfigError(f'{path}: "version" must be "2.0"')
    extensions = _section(document, "extensions")
    level = _section(_section(document, "logging"), "logLevel").get("default", "Information")
    if str(level).lower() not in _LEVELS:
        raise ConfigError(f"host.json: logging.logLevel.default: unknown level {level!r}")
    return HostConfig(
        queues=_queues(_section(extensions, "queues")),
        http=_http(_section(extensions, "http")),
        function_timeout=_function_timeout(document.get("functionTimeout", "00:30:00")),
        log_level=_LEVELS[str(level).lower()],
    )


def seconds(value: object, field: str) -> float:
    """Convert a .NET time span (`[d.]hh:mm:ss[.f]`) to seconds. Raises ConfigError."""
    match = _TIME_SPAN.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ConfigError(f'host.json: {field} must look like "00:00:30", not {value!r}')
    days, hours, minutes, rest = match.groups()
    return int(days or 0) * 86400 + int(hours) * 3600 + int(minutes) * 60 + float(rest)


def _queues(section: dict[str, Any]) -> QueueOptions:
    batch_size = _integer(section, "batchSize", 16, 1, 32)
    encoding = str(section.get("messageEncoding", "base64")).lower()
    if encoding not in ("base64", "none"):
        raise ConfigError(f"host.json: messageEncoding must be base64 or none, not {encoding!r}")
    return QueueOptions(
        batch_size=batch_size,
        new_batch_threshold=_integer(section, "newBatchThreshold", batch_size // 2, 0, 1000),
        max_dequeue_count=_integer(section, "maxDequeueCount", 5, 1, 1000),
        visibility_timeout=seconds(
            section.get("visibilityTimeout", "00:00:00"), "visibilityTimeout"
        ),
        max_polling_interval=seconds(
            section.get("maxPollingInterval", "00:01:00"), "maxPollingInterval"
        ),
        base64=encoding == "base64",
    )


def _http(section: dict[str, Any]) -> HttpOptions:
    prefix = section.get("routePrefix", "api")
    if not isinstance(prefix, str):
        raise ConfigError("host.json: extensions.http.routePrefix must be a string")
    concurrent = _integer(section, "maxConcurrentRequests", -1, -1, 100_000)
    outstanding = _integer(section, "maxOutstandingRequests", -1, -1, 100_000)
    return HttpOptions(
        route_prefix=prefix.strip("/"),
        max_concurrent=concurrent if concurrent > 0 else None,
        max_outstanding=outstanding if outstanding > 0 else None,
    )


def _function_timeout(value: object) -> float | None:
    return None if value in ("-1", -1) else seconds(value, "functionTimeout")


def _integer(section: dict[str, Any], field: str, default: int, low: int, high: int) -> int:
    value = section.get(field, default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(f"host.json: {field} must be a whole number from {low} to {high}")
    return value


def _section(document: dict[str, Any], name: str) -> dict[str, Any]:
    section = document.get(name, {})
    if not isinstance(section, dict):
        raise ConfigError(f"host.json: {name} must be an object")
    return section


FILES = ("local.settings.json", "local.settings.sample.json")
_SHORTHAND = "usedevelopmentstorage=true"
# The emulator's account is public knowledge: every Azure storage emulator has this same key.
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_DEFAULT_AZURITE_PORT = "10000"


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """The content of one settings file, and its path; the path is None where the file is missing."""

    values: Mapping[str, str]
    source: Path | None
    http_port: int | None


def read_settings(app: Path) -> LocalSettings:
    """Read the app's local settings file, or none. Raises ConfigError when it is malformed."""
    for name in FILES:
        if (app / name).is_file():
            return read_settings_file(app / name)
    return LocalSettings({}, None, None)


def read_settings_file(path: Path) -> LocalSettings:
    """Read one settings file. Raises ConfigError when it is missing or malformed."""
    document = _parse(path)
    if document.get("IsEncrypted"):
        raise ConfigError(f"{path} is encrypted; run `func settings decrypt` first")
    values = document.get("Values") or {}
    if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
        raise ConfigError(f"{path}: Values must be an object whose values are strings")
    host = document.get("Host")
    port = host.get("LocalHttpPort") if isinstance(host, dict) else None
    if port is not None and not isinstance(port, int):
        raise ConfigError(f"{path}: Host.LocalHttpPort must be a number")
    return LocalSettings(values, path, port)


def apply_settings(settings: LocalSettings, environ: MutableMapping[str, str]) -> None:
    """Fill `environ` with the settings it lacks and spell out the storage shorthand in it.

    Raises ConfigError when AZURITE_PORT is not a port number.
    """
    for name, value in settings.values.items():
        environ.setdefault(name, value)
    for name, value in list(environ.items()):
        if value.strip().rstrip(";").lower() == _SHORTHAND:
            environ[name] = azurite_connection(environ.get("AZURITE_PORT", _DEFAULT_AZURITE_PORT))


def azurite_connection(blob_port: str) -> str:
    """Return the connection string of an Azurite whose queue and table ports follow the blob's.

    Raises ConfigError when `blob_port` is not a port number.
    """
    if not blob_port.isdecimal() or not 0 < int(blob_port) < 65534:
        raise ConfigError(f"AZURITE_PORT is not a port number: {blob_port!r}")
    base = int(blob_port)
    endpoints = "".join(
        f"{service}Endpoint=http://127.0.0.1:{base + offset}/{_ACCOUNT};"
        for offset, service in enumerate(("Blob", "Queue", "Table"))
    )
    return f"DefaultEndpointsProtocol=http;AccountName={_ACCOUNT};AccountKey={_KEY};{endpoints}"


def _parse(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path} must hold a JSON object")
    return document
