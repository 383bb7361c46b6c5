"""The local stack: sandbox, Azurite and the Functions host with one command.

`python -m dev.tools.stack up` runs it in the foreground; tests, the demo and benches use `Stack`
as an async context manager.
"""

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from dev.tools.local_stack import ROOT, Stack, say
from dev.tools.processes import StackError

__all__ = ["Stack", "StackError"]


async def _up(stack: Stack) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    starting = asyncio.create_task(stack.__aenter__())
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait([starting])
        return
    await starting
    try:
        say(_addresses(stack))
        failed = asyncio.create_task(stack.failure())
        await asyncio.wait([failed, stopped], return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            await failed
        failed.cancel()
        say("stopping")
    finally:
        await stack.__aexit__(None, None, None)


def _addresses(stack: Stack) -> str:
    first = stack.ports.azurite
    rows = [
        ("function app", f"{stack.host_url}/api/status"),
        ("Azure (sandbox)", stack.sandbox_url),
        ("W&B", stack.wandb_url),
        ("storage", f"127.0.0.1:{first} (blob), {first + 1} (queue), {first + 2} (table)"),
        ("logs", f"{stack.run_dir}/*.log"),
    ]
    return "\n".join([*(f"  {name:<16} {value}" for name, value in rows), "Ctrl-C stops all."])


def main() -> None:
    """Run the stack in the foreground until a signal. Exit code 1 when it cannot go on."""
    parser = argparse.ArgumentParser(
        prog="python -m dev.tools.stack", description="Run the local stack."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="run sandbox, Azurite and the Functions host")
    up.add_argument(
        "--fresh",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="empty storage first (the sandbox always starts empty)",
    )
    up.add_argument("--app", type=Path, default=ROOT, help="app folder (default: this project)")
    up.add_argument(
        "--run-dir",
        type=Path,
        default=ROOT / ".run",
        help="folder for logs, process ids and storage (default: .run of this project)",
    )
    arguments = parser.parse_args()
    try:
        stack = Stack(run_dir=arguments.run_dir, app=arguments.app, fresh=arguments.fresh)
        asyncio.run(_up(stack))
    except StackError as error:
        print(f"stack: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
