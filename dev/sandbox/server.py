"""The sandbox process: two listening ports, fault injection, the request log, and dispatch.

Azure's hosts share one port (`--port`), W&B has its own (`--wandb-port`); both listen on
loopback only. Events go to the Functions host at `--host-url`. What it plays and how to drive
it is in docs/sandbox.md.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import re
import signal
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from dev.sandbox import control, services
from dev.sandbox.faults import Fault
from dev.sandbox.http import Call, ConnectionDropped, Handler, json_response
from dev.sandbox.store import DEFAULT_SUBSCRIPTION, World

log = logging.getLogger("sandbox")

_HOSTED = re.compile(r"^/_host/([^/]+)(/.*)?$")
_MAX_BODY = 512 * 1024 * 1024
_EXAMPLES = """\
examples:
  curl localhost:7700/_sandbox/health
  curl -X PUT localhost:7700/_sandbox/vaults/team-vault/secrets/wandb-key -d '{"value": "…"}'
  curl localhost:7700/_host/team-vault.vault.azure.net/secrets -H 'Authorization: Bearer any'

A client reaches https://HOST/PATH at http://127.0.0.1:PORT/_host/HOST/PATH.
Control paths, settings and known differences from Azure: docs/sandbox.md.
"""


def _azure_target(path: str) -> tuple[str, str]:
    """Split a raw path into (host, path below the host); ARM owns everything at the root."""
    host = "management.azure.com"
    if match := _HOSTED.match(path):
        host, path = match.group(1).lower().removesuffix(":443"), match.group(2) or "/"
    # Some SDKs join a scope that starts with a slash to a URL that ends with one.
    return host, "/" + path.lstrip("/")


class _Dropped(web.Response):
    """Stands for a connection that was closed without an answer; never sent."""


class Sandbox:
    """Both ports over one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._azure: dict[str, Handler] = services.azure(world)
        self._wandb: Handler = services.wandb(world)
        self._control: Handler = control.routes(world)

    async def handle_azure(self, request: web.BaseRequest) -> web.StreamResponse:
        raw = request.rel_url.raw_path
        if raw.startswith("/_sandbox"):
            return await _guarded(self._control, await _call(request, "control", "sandbox", raw))
        host, path = _azure_target(raw)
        service = services.service_of(host)
        if service is None:
            return json_response({"error": f"the sandbox has no host {host}"}, status=502)
        call = await _call(request, service, host, path)
        return await self._answer(call, self._azure[service])

    async def handle_wandb(self, request: web.BaseRequest) -> web.StreamResponse:
        call = await _call(request, "wandb", "wandb", request.rel_url.raw_path)
        return await self._answer(call, self._wandb)

    async def _answer(self, call: Call, handler: Handler) -> web.StreamResponse:
        generation = self.world.generation
        fault = self.world.fault_for(call.service, call.method, call.path, call.host)
        response = await self._with_fault(call, handler, fault)
        if generation == self.world.generation:
            status = 0 if isinstance(response, _Dropped) else response.status
            self.world.requests[(call.service, call.method, call.path, status)] += 1
        return response

    async def _with_fault(
        self, call: Call, handler: Handler, fault: Fault | None
    ) -> web.StreamResponse:
        if fault is None:
            return await _guarded(handler, call)
        action = fault.action
        if "delay_s" in action:
            await asyncio.sleep(float(action["delay_s"]))
        if "hold" in action:
            await fault.removed.wait()
        if "status" in action:
            return _instead(action)
        if action.get("drop") == "before":
            return _dropped(call)
        response = await _guarded(handler, call)
        if "drop" in action:
            return _dropped(call)
        if action.get("truncate"):
            return await _truncated(call, response)
        if "raw_body" in action:
            return web.Response(text=str(action["raw_body"]), content_type="application/json")
        return response


async def _call(request: web.BaseRequest, service: str, host: str, path: str) -> Call:
    return Call(
        request=request,
        service=service,
        host=host,
        method=request.method,
        path=path,
        query=request.rel_url.query,
        headers=request.headers,
        body=await request.read(),
    )


async def _guarded(handler: Handler, call: Call) -> web.StreamResponse:
    try:
        return await handler(call)
    except ConnectionDropped:
        return _dropped(call)
    except web.HTTPException as error:
        return web.Response(status=error.status, text=error.text)
    except Exception:  # the sandbox reports its own bugs as a 500, with the traceback in its log
        log.exception("sandbox bug in %s %s", call.method, call.path)
        return json_response({"error": {"code": "SandboxBug", "message": call.path}}, status=500)


def _instead(action: dict[str, Any]) -> web.Response:
    """Answer in the service's place; a body that is text goes out as it is."""
    headers = {str(k): str(v) for k, v in (action.get("headers") or {}).items()}
    status = int(action["status"])
    body = action.get("body")
    if isinstance(body, str):
        return web.Response(text=body, status=status, headers=headers)
    return json_response({} if body is None else body, status=status, headers=headers)


def _dropped(call: Call) -> _Dropped:
    if call.request.transport is not None:
        call.request.transport.abort()
    return _Dropped()


async def _truncated(call: Call, response: web.StreamResponse) -> web.StreamResponse:
    """Send the headers of the whole answer and half of its body, then close the socket."""
    body = response.body if isinstance(response, web.Response) else b""
    whole = bytes(body) if isinstance(body, (bytes, bytearray)) else b""
    partial = web.StreamResponse(
        status=response.status, headers={"Content-Type": "application/json"}
    )
    partial.content_length = max(len(whole), 2)
    await partial.prepare(call.request)
    await partial.write(whole[: len(whole) // 2])
    if call.request.transport is not None:
        call.request.transport.close()
    return partial


async def serve(
    handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], port: int
) -> web.ServerRunner:
    """Listen on loopback. Raises OSError when the port is taken."""
    loop = asyncio.get_running_loop()

    def request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> Any:
        return web.BaseRequest(
            message, payload, protocol, writer, task, loop, client_max_size=_MAX_BODY
        )

    # Fault injection aborts sockets on purpose; aiohttp's access log would drown the story.
    runner = web.ServerRunner(web.Server(handler, request_factory=request, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    return runner


async def run(world: World, port: int, wandb_port: int) -> None:
    """Serve until SIGINT or SIGTERM."""
    sandbox = Sandbox(world)
    runners = [
        await serve(sandbox.handle_azure, port),
        await serve(sandbox.handle_wandb, wandb_port),
    ]
    tasks = [asyncio.create_task(job) for job in services.background(world)]
    log.info(
        "sandbox: Azure %s, W&B %s, events to %s", world.base_url, world.wandb_url, world.host_url
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    await stop.wait()
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    for runner in runners:
        await runner.cleanup()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m dev.sandbox.server",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    env = os.environ
    parser.add_argument(
        "--port",
        type=int,
        default=int(env.get("SANDBOX_PORT", "7700")),
        help="port of all Azure hosts and of the control paths (SANDBOX_PORT; now %(default)s)",
    )
    parser.add_argument(
        "--wandb-port",
        type=int,
        default=int(env.get("SANDBOX_WANDB_PORT", "7701")),
        help="port of the W&B stand-in (SANDBOX_WANDB_PORT; now %(default)s)",
    )
    parser.add_argument(
        "--host-url",
        default=f"http://127.0.0.1:{env.get('HOST_PORT', '7071')}",
        help="Functions host that events are delivered to (from HOST_PORT; now %(default)s)",
    )
    parser.add_argument(
        "--subscription",
        default=env.get("AZURE_SUBSCRIPTION_IDS", "").split(",")[0].strip() or DEFAULT_SUBSCRIPTION,
        help="subscription of vaults that a control call creates without saying where "
        "(first of AZURE_SUBSCRIPTION_IDS; now %(default)s)",
    )
    return parser.parse_args()


def main() -> None:
    options = _options()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    world = World(
        base_url=f"http://127.0.0.1:{options.port}",
        wandb_url=f"http://127.0.0.1:{options.wandb_port}",
        host_url=options.host_url,
        host_key=os.environ.get("HOST_SYSTEM_KEY") or World.host_key,
        default_subscription=options.subscription,
    )
    asyncio.run(run(world, options.port, options.wandb_port))


if __name__ == "__main__":
    main()
