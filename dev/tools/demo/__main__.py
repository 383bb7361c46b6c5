"""`python -m dev.tools.demo`: start the stack, tell the story, and stay up or end with a verdict."""

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Final

from dev.tools.demo import stage
from dev.tools.demo.cloud import StoryError
from dev.tools.demo.proof import Report
from dev.tools.demo.screen import Screen
from dev.tools.local_stack import ROOT, Stack
from dev.tools.processes import StackError

_OWN_JOB: Final = """\
  from openai import OpenAI
  azure = OpenAI(base_url="{endpoint}/openai/v1", api_key="any")
  file = azure.files.create(file=open("chats.jsonl", "rb"), purpose="fine-tune")
  job = azure.fine_tuning.jobs.create(model="gpt-4.1-mini-2025-04-14", training_file=file.id)"""


async def _demo(arguments: argparse.Namespace, screen: Screen) -> int:
    """Run the demo until its end, or until a signal. Returns the exit code."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    stop = asyncio.create_task(stopped.wait())
    play = asyncio.create_task(_play(arguments, screen, stopped))
    await asyncio.wait([play, stop], return_when=asyncio.FIRST_COMPLETED)
    if play.done():
        stop.cancel()
        return await play
    if arguments.once:
        play.cancel()
    # Otherwise the story itself sees the signal, and what it has started ends with it.
    try:
        return await play
    except asyncio.CancelledError:
        screen.bad("stopped before the end")
        return 1


async def _play(arguments: argparse.Namespace, screen: Screen, stopped: asyncio.Event) -> int:
    report = Report()
    stack = Stack(
        run_dir=arguments.run_dir,
        in_memory=True,
        env=stage.host_environ(os.environ),
        progress=screen.say,
    )
    # A verdict of an earlier run must not be taken for this one's.
    arguments.report.unlink(missing_ok=True)
    stage.check_sandbox(stack, os.environ)
    stage.keys(stack, os.environ)
    screen.act("Sandbox, storage and the local Functions host start")
    async with stack:
        try:
            await _tell(stack, screen, report, stopped)
        except StoryError as error:
            report.problems.append(str(error))
        report.seconds = screen.seconds
        report.write(arguments.report)
        _verdict(report, screen)
        screen.say(f"logs: {stack.run_dir}/*.log", "dim")
        screen.say(f"report: {arguments.report}")
        if not arguments.once and not stopped.is_set():
            _addresses(stack, screen)
            await _until_stopped(stack, stopped)
    return 0 if report.ok else 1


async def _tell(stack: Stack, screen: Screen, report: Report, stopped: asyncio.Event) -> None:
    """Tell the story; a stack that cannot go on, or a signal, ends it."""
    # Here: the openai SDK takes its time to import, and --help needs none of it.
    from dev.tools.demo.story import tell

    story = asyncio.create_task(tell(stack, screen, report, os.environ))
    failure = asyncio.create_task(stack.failure())
    stop = asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait([story, failure, stop], return_when=asyncio.FIRST_COMPLETED)
        if story.done():
            await story
        elif failure.done():
            await failure
        else:
            raise StoryError("stopped before the end")
    except StackError as error:
        raise StoryError(str(error)) from error
    finally:
        for task in (story, failure, stop):
            task.cancel()
        await asyncio.gather(story, failure, stop, return_exceptions=True)


async def _until_stopped(stack: Stack, stopped: asyncio.Event) -> None:
    failure = asyncio.create_task(stack.failure())
    stop = asyncio.create_task(stopped.wait())
    await asyncio.wait([failure, stop], return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if failure.done():
        await failure
    failure.cancel()


def _verdict(report: Report, screen: Screen) -> None:
    counts = report.to_json()["values"]
    screen.console.print()
    if report.ok:
        screen.good(
            f"{counts['found']} of {counts['expected']} published values are in W&B, each once: "
            f"missing {counts['missing']}, duplicate {counts['duplicate']}"
        )
    else:
        for problem in report.problems:
            screen.bad(problem)
        for proof in report.proofs:
            for complaint in proof.complaints():
                screen.bad(f"{proof.job}: {complaint}")
        if report.old_key_requests:
            screen.bad(f"{report.old_key_requests} requests carried the old key after the switch")


def _addresses(stack: Stack, screen: Screen) -> None:
    from dev.tools.demo.onboarding import ACCOUNT

    runs = f"{stack.sandbox_url}/_sandbox/wandb/runs"
    rows = [
        ("status", f"{stack.host_url}/api/status"),
        ("Azure (sandbox)", stack.sandbox_url),
        ("W&B", stack.wandb_url),
    ]
    if stage.is_own_wandb(stack):
        rows.append(("a run's content", f"{runs}/ENTITY/PROJECT/JOB (list: {runs})"))
    rows.append(("logs", f"{stack.run_dir}/*.log"))
    screen.act("The stack stays up")
    screen.raw("\n".join(f"  {name:<16} {value}" for name, value in rows))
    screen.raw("\nA job of your own, with rows of chats in chats.jsonl:\n")
    endpoint = f"{stack.sandbox_url}/_host/{ACCOUNT}.openai.azure.com"
    screen.raw(_OWN_JOB.format(endpoint=endpoint))
    screen.raw("\nCtrl-C stops all.")


def main() -> None:
    """Run the demo. Exit code 0: the account is healthy and every value is in W&B once."""
    parser = argparse.ArgumentParser(
        prog="python -m dev.tools.demo",
        description="Play the whole story on this machine and check every value.",
        epilog="Ports come from SANDBOX_PORT, SANDBOX_WANDB_PORT, HOST_PORT and AZURITE_PORT. "
        "With WANDB_BASE_URL and WANDB_API_KEY set, the runs go to that W&B instead; "
        "DEMO_SECOND_WANDB_API_KEY is the key that is then rotated to (default: the same).",
    )
    parser.add_argument(
        "--once", action="store_true", help="end after the story with 0 or 1 instead of staying up"
    )
    parser.add_argument(
        "--run-dir",
        type=Path,
        default=ROOT / ".run",
        help="folder for logs and process ids (default: .run of this project)",
    )
    parser.add_argument(
        "--report",
        type=Path,
        default=ROOT / ".demo" / "report.json",
        help="where the verdict is written (default: .demo/report.json of this project)",
    )
    arguments = parser.parse_args()
    try:
        code = asyncio.run(_demo(arguments, Screen()))
    except (StackError, StoryError) as error:
        print(f"demo: {error}", file=sys.stderr)
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    main()
