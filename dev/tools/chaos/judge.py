"""Compares with the truth once a batch is over: what Azure published against what W&B holds.

Waits for the app to settle with faults gone, has everything looked at once more as the drift
timer would, and then names each thing that is not as it must be.
"""

import asyncio
import time
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from dev.tools.chaos.plan import JobPlan, Json, Plan
from dev.tools.chaos.play import Played
from dev.tools.chaos.stage import Stage
from dev.tools.demo.values import compare

PROJECT: Final = "sandbox-team/azure-openai-fine-tuning"
_ENDED: Final = ("ending", "complete")
_SETTLE_S: Final = 120.0
_HELP_AFTER_S: Final = 30.0
"""From then on a run without its end is closed by a forced re-sync, as the last look would close
it after five minutes."""


@dataclass(slots=True)
class Verdict:
    """One run's. `wrong` is empty for a run that is as it must be."""

    seed: int
    values: int = 0
    missing: int = 0
    doubled: int = 0
    wrong: list[str] = field(default_factory=list)
    helped: int = 0
    """Runs of W&B that got their end only by a later look."""


async def judge(stage: Stage, plans: list[Plan], played: Played) -> list[Verdict]:
    """Return a verdict for each run, in their order."""
    await stage.next_pass()
    end, helped = time.monotonic() + _SETTLE_S, set[str]()
    began = time.monotonic()
    while True:
        found = await _look(stage, plans, played)
        waiting = await stage.waiting()
        if waiting.get("relay-jobs-poison") or waiting.get("reconcile-accounts-poison"):
            await _account_for_poison(stage, found)
            await stage.take_up_poison()
        if time.monotonic() > end:
            break
        if not any(verdict.wrong for verdict in found):
            break
        await _mend_keys(stage, plans, played)
        if time.monotonic() - began > _HELP_AFTER_S:
            await _close_runs(stage, plans, helped)
        await asyncio.sleep(1)
    await _nothing_more_to_write(stage, plans, found)
    for verdict, plan in zip(found, plans, strict=True):
        verdict.helped = sum(job.id in helped for job in plan.jobs)
    await _queues_run_dry(stage, found)
    return found


async def _look(stage: Stage, plans: list[Plan], played: Played) -> list[Verdict]:
    status = await stage.status()
    jobs = {job["id"]: job for job in status["jobs"]}
    accounts = {account["name"]: account for account in status["accounts"]}
    keys = {key["secret"]: key for key in status["keys"]}
    used = await stage.control("GET", "wandb/requests-by-key")
    verdicts = []
    for plan in plans:
        verdict = Verdict(plan.seed)
        for job in plan.jobs:
            await _judge_job(stage, job, jobs.get(job.id), verdict)
        await _judge_account(stage, plan, accounts.get(plan.account), verdict)
        good = stage.good_versions[plan.secret]
        newest = played.newest[plan.secret]
        _judge_keys(plan, keys.get(plan.secret), good, newest, used, verdict)
        verdicts.append(verdict)
    return verdicts


async def _judge_job(stage: Stage, job: JobPlan, shown: Json | None, verdict: Verdict) -> None:
    verdict.values += len(job.published)
    if shown is None:
        verdict.wrong.append(f"{job.id}: not in the status")
        return
    if shown["state"] not in _ENDED or shown["error"]:
        verdict.wrong.append(f"{job.id}: {shown['state']} {shown['error']}".strip())
    run = await stage.run(shown["run"] or f"{PROJECT}/{job.id}")
    if run is None:
        verdict.missing += len(job.published)
        verdict.wrong.append(f"{job.id}: no run")
        return
    found = compare(job.published, run["history"])
    verdict.missing += len(found.missing)
    verdict.doubled += len(found.duplicate)
    for name in ("missing", "duplicate", "unexpected"):
        if values := getattr(found, name):
            verdict.wrong.append(f"{job.id}: {len(values)} values {name}, such as {values[:3]}")
    wanted = "finished" if job.status == "succeeded" else "failed"
    if (run["state"], run["summary"].get("status")) != (wanted, job.status):
        state = f"{run['state']} ({run['summary'].get('status')})"
        verdict.wrong.append(f"{job.id}: its run is {state} and not {wanted} ({job.status})")


async def _judge_account(stage: Stage, plan: Plan, shown: Json | None, verdict: Verdict) -> None:
    if shown is None or not shown["healthy"]:
        causes = [item["cause"] for item in (shown or {}).get("findings", ())]
        verdict.wrong.append(f"{plan.account}: not healthy {causes}")
        return
    account = await stage.read_account(plan.account)
    identity = account.get("identity") or {}
    if "SystemAssigned" not in str(identity.get("type")):
        verdict.wrong.append(f"{plan.account}: no identity of its own")
    if not (account.get("tags") or {}).get("wandb-key-vault-url"):
        verdict.wrong.append(f"{plan.account}: no record in its tags")
    path = f"{stage.vault_id()}/providers/Microsoft.Authorization/roleAssignments"
    assigned = await stage.arm("GET", path, "2022-04-01")
    held = [item["properties"]["principalId"] for item in assigned["value"]]
    if held.count(identity.get("principalId")) != 1:
        verdict.wrong.append(f"{plan.account}: {held.count(identity.get('principalId'))} roles")


def _judge_keys(
    plan: Plan,
    shown: Json | None,
    good: set[str],
    newest: str,
    used: list[Json],
    verdict: Verdict,
) -> None:
    version = shown["version"] if shown else ""
    # A good version that was replaced before anybody looked at it need never be in use.
    if version not in good or (newest in good and version != newest):
        verdict.wrong.append(f"{plan.secret}: version {version or 'none'} is in use")
    bad = {sha256(value.encode()).hexdigest()[:12] for value in plan.bad_keys}
    for request in used:
        writes = request["path"].endswith("/file_stream") or request["field"] == "upsertBucket"
        if request["key_sha256"] in bad and writes:
            verdict.wrong.append(f"{plan.secret}: a refused key was used for {request['path']}")


async def _account_for_poison(stage: Stage, found: list[Verdict]) -> None:
    """A message that was set aside must have a cause that can be read."""
    log = (stage.stack.run_dir / "host.log").read_text(errors="replace")
    second = stage.stack.run_dir / "second-host.log"
    log += second.read_text(errors="replace") if second.exists() else ""
    causes = log.count(" failed in ") + log.count("lease of message") + log.count("host: ended")
    for text in await stage.poison():
        if not causes:
            found[0].wrong.append(f"set aside without a cause: {text[:120]}")


async def _mend_keys(stage: Stage, plans: list[Plan], played: Played) -> None:
    """Do as the status says where no version is of use: put a good key into the secret.

    A good version that a bad one replaced before the app came to look at it is never used, and
    an older one may have been revoked by then.
    """
    keys = {key["secret"]: key for key in (await stage.status())["keys"]}
    for plan in plans:
        shown = keys.get(plan.secret)
        if shown is None or played.newest[plan.secret] in stage.good_versions[plan.secret]:
            continue
        if shown["newest_version"] != played.newest[plan.secret]:
            continue  # not looked at yet
        if not shown["version"] or shown["refused_at"]:
            value = f"wandb_v1_mended_{plan.seed}_".ljust(86, "m")
            version = await stage.put_key(plan.secret, value, "active")
            played.newest[plan.secret] = version
            stage.good_versions[plan.secret].add(version)
            played.mended += 1


async def _close_runs(stage: Stage, plans: list[Plan], helped: set[str]) -> None:
    """Do now for runs without an end what the last look does minutes later."""
    for plan in plans:
        for job in plan.jobs:
            run = await stage.run(f"{PROJECT}/{job.id}")
            if job.id in helped or run is None or run["state"] in ("finished", "failed"):
                continue
            helped.add(job.id)
            body = {
                "scope": "job",
                "account": stage.account_id(plan.account),
                "job": job.id,
                "parts": ["jobs"],
                "force": True,
            }
            await stage.app("POST", "/api/resync?wait=20", body)


async def _nothing_more_to_write(stage: Stage, plans: list[Plan], found: list[Verdict]) -> None:
    """One more pass over everything must find nothing to do."""
    before = {item["name"]: item["checked_at"] for item in (await stage.status())["accounts"]}
    await stage.control("DELETE", "requests")
    await stage.next_pass()
    end = time.monotonic() + 30
    names = {plan.account for plan in plans}
    while time.monotonic() < end:
        shown = {item["name"]: item["checked_at"] for item in (await stage.status())["accounts"]}
        if all(shown[name] > before.get(name, "") for name in names if name in shown):
            break
        await asyncio.sleep(0.5)
    for request in await stage.control("GET", "requests"):
        if request["service"] == "arm" and request["method"] in ("PUT", "PATCH", "DELETE"):
            for verdict, plan in zip(found, plans, strict=True):
                if plan.account in request["path"] or "/roleAssignments/" in request["path"]:
                    verdict.wrong.append(f"written again: {request['method']} {request['path']}")


async def _queues_run_dry(stage: Stage, found: list[Verdict]) -> None:
    """Every message must come to an end: done, or in poison with a cause."""
    end = time.monotonic() + 45
    while True:
        waiting = await stage.waiting()
        if not any(waiting[name] for name in waiting if name.endswith("-poison")) and all(
            count <= 2 for count in waiting.values()
        ):
            return  # a tick a second: a message or two are always under way
        if time.monotonic() > end:
            found[0].wrong.append(f"messages came to no end: {waiting}")
            return
        await asyncio.sleep(1)
