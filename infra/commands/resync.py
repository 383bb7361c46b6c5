"""Requests a re-sync from a function app and shows its progress, for people and pipelines.

Exit codes: 0 done without failures, 1 done with failures, 2 refused or called wrongly, 3 app not
reached or not done in time.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

import aiohttp
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

DONE: Final = 0
FAILED: Final = 1
REFUSED: Final = 2
UNREACHED: Final = 3
_KEY: Final = "RELAY_FUNCTION_KEY"
_PATIENCE_S: Final = 120.0
"""An app that scales or starts again is back before that."""

Json = dict[str, Any]


class RefusedError(Exception):
    """The app said no, and why."""


class UnreachedError(Exception):
    """The app did not answer, or the re-sync did not end in time."""


def arguments() -> argparse.ArgumentParser:
    """Return the command's arguments: those of the HTTP call."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.commands.resync",
        description="Check or fix everything, one account or one job, and show the progress.",
        epilog=f"The function key is read from {_KEY}, not from an argument, since other users"
        " of the machine can see arguments. Exit codes: 0 all done, 1 something failed,"
        " 2 refused, 3 not reached or not done in time.",
    )
    parser.add_argument(
        "--url",
        default="http://127.0.0.1:7071",
        help="where the function app is (default: %(default)s)",
    )
    parser.add_argument("--scope", choices=("all", "account", "job"), help="default: what is given")
    parser.add_argument("--account", help="ARM id of the account")
    parser.add_argument("--job", help="id of the job; goes with --account")
    parser.add_argument(
        "--part",
        action="append",
        dest="parts",
        choices=("integration", "jobs"),
        help="only this part (default: both)",
    )
    parser.add_argument("--check", action="store_true", help="show the plan, write nothing")
    parser.add_argument("--since", help="only jobs created since this date, as 2026-01-31")
    parser.add_argument(
        "--force", action="store_true", help="read complete jobs again and add what is missing"
    )
    parser.add_argument(
        "--timeout", type=float, default=3600, help="seconds to wait for the end (default: 3600)"
    )
    parser.add_argument("--json", action="store_true", help="print the finished re-sync as JSON")
    return parser


def request_body(options: argparse.Namespace) -> Json:
    """Return the body of the HTTP call."""
    scope = options.scope or ("job" if options.job else "account" if options.account else "all")
    body = {
        "scope": scope,
        "account": options.account,
        "job": options.job,
        "parts": options.parts,
        "mode": "check" if options.check else "apply",
        "since": options.since,
        "force": options.force or None,
    }
    return {name: value for name, value in body.items() if value is not None}


async def run(options: argparse.Namespace, key: str, console: Console) -> Json:
    """Ask for the re-sync and follow it to its end. Raises RefusedError, UnreachedError."""
    headers = {"x-functions-key": key} if key else {}
    url = f"{options.url.rstrip('/')}/api/resync"
    deadline = time.monotonic() + options.timeout
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as http:
        shown = await _call(http, "POST", url, request_body(options))
        with _bar(console) as progress:
            task = progress.add_task("re-sync", total=None, failed=0, rate=0.0)
            while True:
                progress.update(
                    task,
                    total=shown["total"] or None,
                    completed=shown["done"] + shown["failed"],
                    failed=shown["failed"],
                    rate=shown["rate_per_s"],
                )
                if shown["state"] == "done":
                    return shown
                if time.monotonic() > deadline:
                    raise UnreachedError(
                        f"not done after {options.timeout:.0f} s; it goes on: {url}/{shown['id']}"
                    )
                await asyncio.sleep(1)
                shown = await _call(http, "GET", f"{url}/{shown['id']}")


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]} failed, {task.fields[rate]:.1f}/s"),
        TimeRemainingColumn(),
        console=console,
    )


async def _call(http: aiohttp.ClientSession, method: str, url: str, body: Any = None) -> Json:
    """Return a JSON answer. An app that is away for a moment is waited for."""
    end = time.monotonic() + _PATIENCE_S
    while True:
        try:
            # Without redirects: a key must not travel to another host.
            async with http.request(method, url, json=body, allow_redirects=False) as answer:
                if answer.status in (200, 202):
                    return dict(await answer.json())
                reason = _reason(answer.status, await answer.read())
                if answer.status < 500:
                    raise RefusedError(reason)
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
            raise RefusedError(f"{url} is not an address; give --url as https://NAME") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = f"{url} does not answer ({type(error).__name__})"
        except ValueError as error:
            raise RefusedError(f"{url} is not a function app of this kind") from error
        if time.monotonic() > end:
            raise UnreachedError(reason)
        await asyncio.sleep(2)


def _reason(status: int, raw: bytes) -> str:
    try:
        problem = json.loads(raw)
        parts = [problem["detail"], problem.get("remedy", "")]
    except (ValueError, KeyError, TypeError):
        hint = f"; set {_KEY} to a key of the function app" if status in (401, 403) else ""
        return f"the app answered {status}{hint}"
    return ": ".join(part for part in parts if part)


def report(shown: Json, console: Console) -> None:
    """Print what failed with its remedy, and the plans of a check."""
    for item in shown["items"]:
        for result in item["results"]:
            if error := result.get("error"):
                subject = result.get("job") or item["name"]
                console.print(f"[red]failed[/red] {escape(subject)}: {escape(error)}")
                if remedy := result.get("remedy"):
                    console.print(f"       {escape(remedy)}")
            if shown["request"]["mode"] == "check":
                for step in result.get("plan", ()):
                    console.print(f"[cyan]plan[/cyan]   {step['kind']} {escape(step['target'])}")
                if "to_relay" in result:
                    name = item["account"].rpartition("/")[2]
                    console.print(
                        f"[cyan]jobs[/cyan]   {escape(name)}: {result['to_relay']} of"
                        f" {result['jobs']} to relay"
                    )
    console.print(
        f"{shown['done']} done, {shown['failed']} failed, of {shown['total']}"
        f" in {shown['elapsed_s']:.0f} s"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = arguments().parse_args(argv)
    console = Console(stderr=True)
    try:
        shown = asyncio.run(run(options, os.environ.get(_KEY, ""), console))
    except RefusedError as error:
        console.print(f"refused: {escape(str(error))}")
        return REFUSED
    except UnreachedError as error:
        console.print(escape(str(error)))
        return UNREACHED
    except KeyboardInterrupt:
        console.print("no longer followed; the re-sync goes on")
        return UNREACHED
    report(shown, console)
    if options.json:
        print(json.dumps(shown))
    return FAILED if shown["failed"] else DONE


if __name__ == "__main__":
    sys.exit(main())
