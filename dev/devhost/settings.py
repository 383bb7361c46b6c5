"""Which settings the app sees, and where each came from.

Environment variables win over `local.settings.json`, which stands in for the cloud's app
settings; without that file `local.settings.sample.json` is used. The storage shorthand
`UseDevelopmentStorage=true` is spelled out here, so that neither app nor SDKs need to know on
which ports Azurite listens.
"""

import json
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev.devhost.errors import ConfigError

FILES = ("local.settings.json", "local.settings.sample.json")
_SHORTHAND = "usedevelopmentstorage=true"
# The emulator's account is public knowledge: every Azure storage emulator has this same key.
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_DEFAULT_AZURITE_PORT = "10000"


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """What one settings file holds; `source` is its path, or None when there is no file."""

    values: Mapping[str, str]
    source: Path | None
    http_port: int | None


def read(app: Path) -> LocalSettings:
    """Read the app's local settings file, or none. Raises ConfigError when it is malformed."""
    for name in FILES:
        if (app / name).is_file():
            return read_file(app / name)
    return LocalSettings({}, None, None)


def read_file(path: Path) -> LocalSettings:
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


def apply(settings: LocalSettings, environ: MutableMapping[str, str]) -> None:
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
