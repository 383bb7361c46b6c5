"""Which stand-in answers for which host, and what runs in the background."""

from collections.abc import Coroutine
from typing import Any

from dev.sandbox import delivery, entra, notices
from dev.sandbox.arm import management
from dev.sandbox.http import Handler
from dev.sandbox.openai import jobs
from dev.sandbox.store import World
from dev.sandbox.vault import vaults
from dev.sandbox.wandb import runs

_HOSTS = {
    "management.azure.com": "arm",
    "login.microsoftonline.com": "entra",
}
_SUFFIXES = {
    ".vault.azure.net": "vault",
    ".openai.azure.com": "openai",
    ".cognitiveservices.azure.com": "openai",
    ".services.ai.azure.com": "openai",
    ".eventgrid.azure.net": "eventgrid",
}


def service_of(host: str) -> str | None:
    """Return the service that answers for a host name, or None for a host nobody plays."""
    if service := _HOSTS.get(host):
        return service
    for suffix, service in _SUFFIXES.items():
        if host.endswith(suffix):
            return service
    return None


def azure(world: World) -> dict[str, Handler]:
    return {
        "arm": management.routes(world),
        "entra": entra.routes(world),
        "vault": vaults.routes(world),
        "openai": jobs.routes(world),
        "eventgrid": notices.routes(world),
    }


def wandb(world: World) -> Handler:
    return runs.routes(world)


def background(world: World) -> list[Coroutine[Any, Any, None]]:
    """Return the endless jobs: event delivery with retries, and the training simulator."""
    return [delivery.deliver(world), jobs.simulate(world)]
