"""A process that asks one address as the app does, with the environment it was given.

Prints a JSON object: for each way to ask, `ok`, or the error's text, remedy and whole traceback.
"""

import asyncio
import contextlib
import json
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from finetune_wandb.clients.translate import translated
from finetune_wandb.clients.transport import Transport, share_ca_bundle
from finetune_wandb.clients.wandb.keys import KeyProver
from finetune_wandb.clients.wandb.sink import WandbSink
from finetune_wandb.model.errors import AppError, PermanentError
from finetune_wandb.model.relay.cursor import RunPath
from finetune_wandb.model.relay.ports import RunKey
from finetune_wandb.model.secret import Secret

KEY = Secret("wandb_v1_" + "p" * 77)


async def _sink(transport: Transport, url: str) -> None:
    run = RunPath("sandbox-team", "proj", "ftjob-none")
    # That W&B has no such run is an answer as good as any.
    with contextlib.suppress(PermanentError):
        await WandbSink(transport, url).post(run, b"{}", key=RunKey("sandbox-team", KEY))


async def _prover(transport: Transport, url: str) -> None:
    await KeyProver(transport, url).prove(KEY)


async def _sdk(transport: Transport, url: str) -> None:
    """Ask as the Azure SDKs' clients do: pipeline, transport and translation are theirs."""
    from azure.core import AsyncPipelineClient
    from azure.core.rest import HttpRequest

    from finetune_wandb.clients.azure.sdk import sdk_options

    options = sdk_options(transport)
    policies = [options["retry_policy"]]
    with translated(url, "Key Vault"):
        async with AsyncPipelineClient(
            url, transport=options["transport"], policies=policies
        ) as client:
            await client.send_request(HttpRequest("GET", url))


WAYS: dict[str, Callable[[Transport, str], Awaitable[None]]] = {
    "sink": _sink,
    "prover": _prover,
    "sdk": _sdk,
}


async def main(url: str) -> dict[str, Any]:
    share_ca_bundle()
    transport = Transport()
    said: dict[str, Any] = {}
    for name, ask in WAYS.items():
        try:
            await ask(transport, url)
            said[name] = "ok"
        except AppError as error:
            shown = "".join(traceback.format_exception(error))
            said[name] = {"text": error.message, "remedy": error.remedy, "traceback": shown}
    await transport.close()
    return said


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1]))))
