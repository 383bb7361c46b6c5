"""Question 6: how long until a new process takes its first event, against an empty app?

Both run in the same local host and have the same kinds of trigger, so that the host's own share
is the same; the difference is what the app imports and connects.
"""

import asyncio
import json
import shutil
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import aiohttp
from azure.storage.queue.aio import QueueClient

from dev.bench import report
from dev.bench.report import Figure, Findings, median, paired
from dev.bench.stage import Stage, stage
from dev.bench.watch import cpu_s
from dev.tools import package
from dev.tools.local_stack import ROOT
from finetune_wandb.model.work import RECONCILE

NAME: Final = "cold_start"
_POLL_S: Final = 0.01
_EMPTY: Final = '''"""An app that does nothing, with one trigger of each kind."""

import azure.functions as func

app = func.FunctionApp()


@app.function_name("account_event")
@app.event_grid_trigger(arg_name="event")
async def account_event(event: func.EventGridEvent) -> None:
    return None


@app.function_name("empty_timer")
@app.timer_trigger(arg_name="timer", schedule="%RELAY_SCHEDULE%", use_monitor=False)
async def empty_timer(timer: func.TimerRequest) -> None:
    return None


@app.function_name("empty_queue")
@app.queue_trigger(arg_name="message", queue_name="empty", connection="AzureWebJobsStorage")
async def empty_queue(message: func.QueueMessage) -> None:
    return None


@app.function_name("health")
@app.route(route="health", auth_level=func.AuthLevel.ANONYMOUS)
async def health(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse("")
'''


@dataclass(frozen=True, slots=True)
class Size:
    repetitions: int


FULL: Final = Size(9)
QUICK: Final = Size(2)


@dataclass(frozen=True, slots=True)
class Start:
    """One start. Seconds from the process's birth; CPU is that of the process."""

    ready_s: float
    first_event_s: float
    """What the first event took by itself, once the host was ready."""
    cpu_s: float
    """Until the first event was taken."""

    @property
    def total_s(self) -> float:
        return self.ready_s + self.first_event_s


async def measure(folder: Path, size: Size) -> Findings:
    """Start both apps in turns, each time in a new process."""
    async with stage(folder / "cold") as place:
        await place.stack.stop_host()
        with tempfile.TemporaryDirectory(prefix="empty-app-") as name:
            empty = Path(name)
            (empty / "function_app.py").write_text(_EMPTY)
            shutil.copy(ROOT / "host.json", empty)
            starts: dict[str, list[Start]] = {"ours": [], "empty": []}
            connection = place.stack.storage_connection
            async with QueueClient.from_connection_string(connection, RECONCILE) as queue:
                await queue.clear_messages()
                for turn in range(-1, size.repetitions):
                    for label, app in (("ours", ROOT), ("empty", empty)):
                        start = await _start(place, app)
                        await check_taken(queue, label)
                        if turn >= 0:  # byte code is compiled by then
                            starts[label].append(start)
            imports = await _imports(empty, size.repetitions)
    zip_path = folder / "package.zip"
    files = package.build(zip_path)
    return _findings(starts, imports, zip_path.stat().st_size, len(files))


def _findings(
    starts: dict[str, list[Start]], imports: dict[str, list[float]], size: int, files: int
) -> Findings:
    def ratio(name: str) -> float:
        ours, empty = starts["ours"], starts["empty"]
        return paired([getattr(one, name) for one in ours], [getattr(one, name) for one in empty])

    return Findings(
        [
            Figure(
                "cold_start_vs_empty",
                "start to first event taken ÷ an empty app, wall",
                ratio("total_s"),
                1.5,
            ),
            Figure("cold_start_ready", "start to indexed and listening ÷ empty", ratio("ready_s")),
            Figure("cold_start_cpu", "start to first event, CPU ÷ empty", ratio("cpu_s")),
            Figure(
                "cold_import",
                "import of function_app ÷ empty, CPU",
                median(imports["ours"]) / median(imports["empty"]),
                1.5,
            ),
            Figure(
                "cold_first_event_ms",
                "first event by itself",
                median([one.first_event_s for one in starts["ours"]]) * 1e3,
                unit="ms",
            ),
            Figure("package_kb", f"deployment package, {files} files", size / 1e3, unit="kB"),
        ],
        {
            "starts": {label: [asdict(one) for one in some] for label, some in starts.items()},
            "import_cpu_s": imports,
            "package_bytes": size,
        },
    )


async def _start(place: Stage, app: Path) -> Start:
    host = place.stack.new_host("cold", place.stack.ports.host, app=app)
    started = time.perf_counter()
    # Started here: the stack looks twenty times a second whether a host is ready.
    process = await asyncio.create_subprocess_exec(
        *host.command,
        cwd=ROOT,
        env=host.environ,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await _ready(place, process)
        ready = time.perf_counter() - started
        before = time.perf_counter()
        await _first_event(place)
        event = time.perf_counter() - before
        used = cpu_s(process.pid)
    finally:
        process.kill()
        await process.wait()
    return Start(ready, event, used)


async def _ready(place: Stage, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(60):
        while process.returncode is None:
            try:
                async with place.http.get(f"{place.host_url}/admin/host/status") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(_POLL_S)
    raise RuntimeError(f"the host ended with code {process.returncode}")


async def _first_event(place: Stage) -> None:
    event = place.account_written(place.account_id("cold"))
    url = f"{place.host_url}/runtime/webhooks/eventgrid?functionName=account_event"
    async with place.http.post(
        url, data=json.dumps([event]), headers={"aeg-event-type": "Notification"}
    ) as answer:
        if answer.status >= 300:
            raise RuntimeError(f"the event was answered {answer.status}")


async def check_taken(queue: QueueClient, label: str) -> None:
    """Raise WorkMissingError unless the event became a message, and empty the queue.

    The empty app makes none; ours may begin its work before it is killed, and send another one.
    The next process must not begin with the last one's event.
    """
    found = (await queue.get_queue_properties()).approximate_message_count or 0
    report.require(f"messages of the first event, {label}", min(found, 1), int(label == "ours"))
    await queue.clear_messages()


async def _imports(empty: Path, repetitions: int) -> dict[str, list[float]]:
    """Return the CPU seconds of a bare `import function_app`, in turns."""
    code = "import time, function_app; print(time.process_time())"
    found: dict[str, list[float]] = {"ours": [], "empty": []}
    for _ in range(repetitions):
        for label, folder in (("ours", ROOT), ("empty", empty)):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", code), cwd=folder, stdout=asyncio.subprocess.PIPE
            )
            out, _ = await process.communicate()
            found[label].append(float(out))
    return found
