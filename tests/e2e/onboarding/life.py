"""The life of accounts and jobs in a running stack: make them, wait for them, count what it cost."""

import asyncio
import time
from typing import Any

from tests.e2e.onboarding.place import Json, Place, account_id
from tests.e2e.onboarding.scene import Scene
from tests.e2e.onboarding.scenes import MAIN

ENTITY, PROJECT = "sandbox-team", "azure-openai-fine-tuning"


def in_vault(vault: str) -> dict[str, str]:
    return {"wandb-key-vault-url": f"https://{vault}.vault.azure.net"}


async def onboard(place: Place, name: str, vault: str = MAIN, **more: Json) -> Scene:
    """Make an account and wait until it is healthy."""
    await place.make_account(name, tags=in_vault(vault), **more)
    await place.entry_when(name, lambda entry: bool(entry["healthy"]))
    return Scene(place, name, vault)


async def looks_at(place: Place, name: str) -> int:
    """Return how often an account was read so far."""
    return sum(
        method == "GET" and path.lower().endswith(f"/accounts/{name}")
        for service, method, path, _ in await place.requests()
        if service == "arm"
    )


async def quiet(place: Place) -> None:
    """Wait until nothing is on its way any more: all events delivered, no new request."""
    await place.until(
        lambda: place.control("GET", "deliveries"), lambda found: found["pending"] == 0, 30
    )
    last, same_since = -1, time.monotonic()
    end = time.monotonic() + 60
    while time.monotonic() - same_since < 1.5:
        assert time.monotonic() < end, await place.requests()
        arm = [item for item in await place.requests() if item[0] in ("arm", "vault")]
        if len(arm) != last:
            last, same_since = len(arm), time.monotonic()
        await asyncio.sleep(0.2)


async def role_writes(place: Place) -> int:
    return len([item for item in await place.writes(MAIN) if item.startswith("PUT role 20")])


def job(job_id: str, status: str, **more: Any) -> dict[str, Any]:
    return {
        "id": job_id,
        "object": "fine_tuning.job",
        "created_at": 1764000000,
        "status": status,
        "model": "gpt-4o-mini-2024-07-18",
        "hyperparameters": {"n_epochs": 2},
        "training_file": "file-1",
    } | more


def events(job_id: str, count: int) -> list[Json]:
    return [
        {
            "id": f"ftevent-{job_id}-{step}",
            "object": "fine_tuning.job.event",
            "created_at": 1764000100 + step,
            "level": "info",
            "message": f"Step {step}: training loss={1 / step}",
            "type": "metrics",
            "data": {"step": step, "train_loss": 1 / step},
        }
        for step in range(1, count + 1)
    ]


async def run_when(place: Place, job_id: str, is_true: Any, seconds: float = 30) -> Json:
    async def read() -> Json:
        _, run = await place.call(
            "GET",
            f"{place.stack.sandbox_url}/_sandbox/wandb/runs/{ENTITY}/{PROJECT}/{job_id}",
        )
        return run

    return await place.until(read, is_true, seconds)


async def jobs_of(place: Place, job_id: str) -> Json:
    return next(item for item in (await place.status())["jobs"] if item["id"] == job_id)


async def told(place: Place, name: str) -> list[str]:
    published = await place.control("GET", "notices")
    return [
        item["event"]["type"]
        for item in published
        if str(item["event"]["subject"]).lower() == account_id(name).lower()
    ]
