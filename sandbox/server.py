"""The sandbox process: two listening ports, fault injection, the request log, and dispatch.

`python -m sandbox.server` starts it. Azure's hosts share `SANDBOX_PORT`, W&B has
`SANDBOX_WANDB_PORT`. Events go to the Functions host on `HOST_PORT`.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import re
import signal
from collections import Counter
from collections.abc import Awaitable, Callable

from aiohttp import web

from sandbox import control, services
from sandbox.faults import Fault
from sandbox.http import Call, Handler, json_response
from sandbox.store import World

log = logging.getLogger("sandbox")

_HOSTED = re.compile(r"^/_host/([^/]+)(/.*)?$")
_MAX_BODY = 512 * 1024 * 1024


def _azure_target(path: str) -> tuple[str, str]:
    """Split a raw path into (host, path below the host); ARM owns everything at the root."""
    if match := _HOSTED.match(path):
        return match.group(1).lower(), match.group(2) or "/"
    return "management.azure.com", path


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
            return await self._control(await _call(request, "control", "sandbox", raw))
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
        fault = self.world.fault_for(call.service, call.method, call.path)
        response = await self._with_fault(call, handler, fault)
        self.world.requests[(call.service, call.method, call.path, response.status)] += 1
        return response

    async def _with_fault(
        self, call: Call, handler: Handler, fault: Fault | None
    ) -> web.StreamResponse:
        if fault is None:
            return await _guarded(handler, call)
        action = fault.action
        if "delay_s" in action:
            await asyncio.sleep(float(action["delay_s"]))
            if not {"status", "drop", "truncate", "raw_body"} & set(action):
                return await _guarded(handler, call)
        if action.get("drop") == "before":
            return _dropped(call)
        if action.get("drop") == "after":
            await _guarded(handler, call)
            return _dropped(call)
        if action.get("truncate"):
            return await _truncated(call, await _guarded(handler, call))
        if "raw_body" in action:
            await _guarded(handler, call)
            return web.Response(text=str(action["raw_body"]), content_type="application/json")
        body = action.get("body")
        headers = {str(k): str(v) for k, v in (action.get("headers") or {}).items()}
        if isinstance(body, str):
            return web.Response(text=body, status=int(action["status"]), headers=headers)
        return json_response(body or {}, status=int(action["status"]), headers=headers)


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
    except web.HTTPException as error:
        return web.Response(status=error.status, text=error.text)
    except Exception:  # the sandbox reports its own bugs as a 500, with the traceback in its log
        log.exception("sandbox bug in %s %s", call.method, call.path)
        return json_response({"error": {"code": "SandboxBug", "message": call.path}}, status=500)


def _dropped(call: Call) -> web.Response:
    """Close the socket without an answer; status 0 in the request log stands for that."""
    if call.request.transport is not None:
        call.request.transport.abort()
    response = web.Response(status=499)
    response.set_status(499, "dropped by a fault")
    return response


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
    # Fault injection aborts sockets on purpose; aiohttp's access log would drown the story.
    runner = web.ServerRunner(web.Server(handler, access_log=None, client_max_size=_MAX_BODY))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    return runner


async def run(port: int, wandb_port: int, host_url: str) -> None:
    world = World(
        base_url=f"http://127.0.0.1:{port}",
        wandb_url=f"http://127.0.0.1:{wandb_port}",
        host_url=host_url,
        requests=Counter(),
    )
    sandbox = Sandbox(world)
    runners = [
        await serve(sandbox.handle_azure, port),
        await serve(sandbox.handle_wandb, wandb_port),
    ]
    tasks = [asyncio.create_task(job) for job in services.background(world)]
    log.info("sandbox: Azure %s, W&B %s, events to %s", world.base_url, world.wandb_url, host_url)
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


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sandbox.server", description=__doc__)
    parser.add_argument("--port", type=int, default=int(os.environ.get("SANDBOX_PORT", "7700")))
    parser.add_argument(
        "--wandb-port", type=int, default=int(os.environ.get("SANDBOX_WANDB_PORT", "7701"))
    )
    parser.add_argument(
        "--host-url",
        default=f"http://127.0.0.1:{os.environ.get('HOST_PORT', '7071')}",
        help="the Functions host that events are delivered to",
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(run(options.port, options.wandb_port, options.host_url))


if __name__ == "__main__":
    main()
