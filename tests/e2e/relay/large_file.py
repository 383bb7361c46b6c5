"""A process that relays one job with a large result file, and says how much memory that took.

Run with the address that plays Azure and W&B; prints a JSON object.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from finetune_wandb.clients.azure.jobs import Jobs
from finetune_wandb.clients.transport import Transport
from finetune_wandb.clients.wandb.sink import Pacing, WandbSink
from finetune_wandb.model.relay.job import parse_job
from finetune_wandb.model.relay.ports import RunKey
from finetune_wandb.model.secret import Secret
from finetune_wandb.relay.passes.account_pass import relay_account
from finetune_wandb.relay.passes.job_pass import JobOutcome
from finetune_wandb.relay.ports import RelayOptions, RelayPorts
from tests import fakes
from tests.e2e.relay.stage import ENTITY, KEY, START, job


def peak_bytes() -> int:
    """Return the largest resident size that this process ever had."""
    # Not getrusage: its figure begins with what the process was forked from.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


async def relay(ports: RelayPorts, name: str) -> JobOutcome:
    """Relay one job whose result file is `file-NAME`."""
    raw = job(name, "succeeded", finished_at=int(START) + 50_000, result_files=[f"file-{name}"])
    made = parse_job(raw)
    assert made is not None
    (outcome,) = await relay_account(
        fakes.relay_account(),
        [made],
        ports=ports,
        clock=lambda: START + 60_000,
        options=RelayOptions(),
    )
    return outcome


async def main(url: str) -> dict[str, Any]:
    transport = Transport(url)
    ports = RelayPorts(
        jobs=Jobs(transport, "https://cognitiveservices.azure.com/.default"),
        cursors=fakes.FakeCursors(),
        # Two requests a second are W&B's pace; waiting takes no memory.
        sink=WandbSink(transport, url, pacing=Pacing(per_second=100_000)),
        keys=fakes.FakeKeys(RunKey(ENTITY, Secret(KEY))),
        new_id=fakes.short_id,
    )
    small = await relay(ports, "small")
    before, start = peak_bytes(), time.process_time()
    large = await relay(ports, "large")
    await transport.close()
    return {
        "errors": [small.error, large.error],
        "values": [small.values, large.values],
        "peak_before": before,
        "peak_growth": peak_bytes() - before,
        "cpu_s": round(time.process_time() - start, 1),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1]))))
