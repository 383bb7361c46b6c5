"""A server with nothing but the W&B stand-in, and the official SDK in a process of its own.

The SDK keeps global state and starts threads and a core process, so each scenario gets a fresh
interpreter; the server stays in the test's event loop.
"""

import asyncio
import base64
import json
import os
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import aiohttp
from aiohttp import web

from dev.sandbox.server import Sandbox, serve
from dev.sandbox.store import World

KEY = "k" * 40
ENTITY = "sandbox-team"

_PRELUDE = """
import json, sys
import wandb
from wandb.apis.public import Run

QUIET = dict(console="off", silent=True, x_disable_stats=True, x_disable_meta=True,
             x_disable_machine_info=True, x_save_requirements=False, disable_git=True,
             save_code=False, init_timeout=20)

def start(run_id, settings={}, **more):
    return wandb.init(entity="sandbox-team", project="proj", id=run_id, reinit="create_new",
                      settings=wandb.Settings(**(QUIET | settings)), **more)

result = None
"""


def basic(key: str) -> str:
    """Return the Authorization header of a key."""
    return "Basic " + base64.b64encode(f"api:{key}".encode()).decode()


class WandbServer:
    """The W&B port and the control paths, on one free port."""

    def __init__(
        self, url: str, world: World, session: aiohttp.ClientSession, tls_port: int = 0
    ) -> None:
        self.url = url
        self.tls_port = tls_port
        self.world = world
        self.session = session

    async def call(
        self, method: str, path: str, body: Any = None, key: str | None = KEY, **headers: str
    ) -> tuple[int, Any]:
        """Return the status and the parsed body of one call; `body` may be bytes as they are."""
        if key is not None:
            headers["Authorization"] = basic(key)
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        async with self.session.request(
            method, self.url + path, data=data, headers=headers
        ) as answer:
            text = await answer.text()
            is_json = "json" in answer.headers.get("Content-Type", "")
            return answer.status, json.loads(text) if is_json else text

    async def graphql(self, query: str, key: str | None = KEY, **variables: Any) -> Any:
        """Return the data of a GraphQL request that must succeed."""
        body = {"query": query, "variables": variables}
        status, answer = await self.call("POST", "/graphql", body, key)
        assert status == 200, answer
        assert "errors" not in answer, answer
        return answer["data"]

    async def upsert(self, name: str, key: str = KEY, **fields: Any) -> Any:
        """Create or change a run of the default project. Returns the payload."""
        query = """mutation Put($input: UpsertBucketInput!) {
            upsertBucket(input: $input) { bucket { id name historyLineCount } inserted } }"""
        wanted = {"entityName": ENTITY, "modelName": "proj", "name": name, **fields}
        return (await self.graphql(query, key, input=wanted))["upsertBucket"]

    async def stream(self, name: str, body: Any, key: str = KEY) -> tuple[int, Any]:
        """Post to the file_stream of a run of the default project."""
        return await self.call("POST", f"/files/{ENTITY}/proj/{name}/file_stream", body, key)

    async def rows(self, name: str, offset: int, *rows: str) -> None:
        """Put history lines at an offset."""
        files = {"wandb-history.jsonl": {"offset": offset, "content": list(rows)}}
        status, answer = await self.stream(name, {"files": files})
        assert status == 200, answer

    async def shown(self, name: str) -> Any:
        """Return what the control path shows of a run of the default project."""
        status, answer = await self.call("GET", f"/_sandbox/wandb/runs/{ENTITY}/proj/{name}")
        assert status == 200, answer
        return answer

    async def control(self, method: str, path: str, body: Any = None) -> Any:
        status, answer = await self.call(method, f"/_sandbox/wandb/{path}", body, key=None)
        assert status in (200, 204), answer
        return answer

    async def sdk(self, folder: Path, code: str, key: str = KEY) -> Any:
        """Run code with the official SDK and return what it leaves in `result`."""
        program = _PRELUDE + dedent(code) + "\nprint('RESULT' + json.dumps(result, default=dict))"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            program,
            cwd=folder,
            env=_environment(self.url, key, folder),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 100)
        assert process.returncode == 0, err.decode()[-4000:]
        return json.loads(out.decode().rsplit("RESULT", 1)[1])


def _environment(url: str, key: str, folder: Path) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    places = ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR")
    return own | {
        "WANDB_BASE_URL": url,
        "WANDB_API_KEY": key,
        "WANDB_MODE": "online",
        "WANDB_ERROR_REPORTING": "false",
        "HOME": str(folder),
        **{place: str(folder) for place in places},
    }


@asynccontextmanager
async def wandb_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[WandbServer]:
    """Run the stand-in on a free port of loopback, and behind TLS on another one."""
    world = World(base_url="", wandb_url="", host_url="")
    sandbox = Sandbox(world)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.rel_url.raw_path.startswith("/_sandbox"):
            return await sandbox.handle_azure(request)
        return await sandbox.handle_wandb(request)

    runner = await serve(handle, 0)
    if tls is not None:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    host, port = runner.addresses[0][:2]
    try:
        async with aiohttp.ClientSession() as session:
            tls_port = runner.addresses[-1][1] if tls else 0
            yield WandbServer(f"http://{host}:{port}", world, session, tls_port)
    finally:
        await runner.cleanup()
