"""Compares with the truth once a batch is over: what Azure published against what W&B holds.

Waits for the app to settle with faults gone, has everything looked at once more as the drift
timer would, and then names each thing that is not as it must be.
"""

import asyncio
import json
import time
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from dev.tools.chaos.plan import Fate, JobPlan, Json, Plan
from dev.tools.chaos.play import Played
from dev.tools.chaos.stage import FOREIGN_ROWS, PROJECT, Stage
from dev.tools.demo.values import compare

_ENDED: Final = ("ending", "complete")
_SETTLE_S: Final = 150.0
"""A crash costs two minutes."""
_HELP_AFTER_S: Final = 30.0
"""From then on a run without its end is closed by a forced re-sync, as the last look would close
it after five minutes."""
_AGAIN_S: Final = 10.0
"""How often jobs that were set aside are re-synced, and everything is looked at again: by
themselves they wait a minute and more after a refusal."""


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
    retried: int = 0
    """Jobs that were set aside and re-synced, as the status asks people to do."""


async def judge(stage: Stage, plans: list[Plan], played: Played) -> list[Verdict]:
    """Return a verdict for each run, in their order."""
    await stage.next_pass()
    helped, retried = set[str](), set[str]()
    began = asked = time.monotonic()
    while True:
        found = await _look(stage, plans, played)
        waiting = await stage.waiting()
        if any(count for queue, count in waiting.items() if queue.endswith("-poison")):
            await _account_for_poison(stage, found)
            await stage.take_up_poison()
        now = time.monotonic()
        if now - began > _SETTLE_S or not any(verdict.wrong for verdict in found):
            break
        await _restore_keys(stage, plans, played)
        if now - asked > _AGAIN_S:
            asked = now
            await _retry(stage, plans, retried)
            await stage.next_pass()
        if now - began > _HELP_AFTER_S:
            await _close_runs(stage, plans, helped)
        await asyncio.sleep(1)
    await _nothing_more_to_write(stage, plans, found)
    for verdict, plan in zip(found, plans, strict=True):
        verdict.helped = sum(job.id in helped for job in plan.jobs)
        verdict.retried = sum(job.id in retried for job in plan.jobs)
        verdict.wrong += [
            played.live.late[job.id] for job in plan.jobs if job.id in played.live.late
        ]
    await _queues_run_dry(stage, found)
    return found


async def _look(stage: Stage, plans: list[Plan], played: Played) -> list[Verdict]:
    status = await stage.status()
    jobs = {(job["account"], job["id"]): job for job in status["jobs"]}
    accounts = {account["id"].lower(): account for account in status["accounts"]}
    keys = {key["secret"]: key for key in status["keys"]}
    used = await stage.control("GET", "wandb/requests-by-key")
    verdicts = []
    for plan in plans:
        verdict = Verdict(plan.seed)
        here, before = stage.account_id(plan.account).lower(), stage.first_id(plan.account).lower()
        for job in plan.jobs:
            await _judge_job(stage, job, jobs.get((here, job.id)), verdict)
            if before != here:
                await _judge_old_run(stage, job, jobs, here, before, verdict)
        await _judge_account(stage, plan, accounts.get(here), verdict)
        if before != here and before in accounts:
            verdict.wrong.append(f"{plan.account}: still shown where it was")
        good = stage.good_versions[plan.secret]
        newest = played.newest[plan.secret]
        _judge_keys(plan, keys.get(plan.secret), good, newest, used, verdict)
        verdicts.append(verdict)
    return verdicts


async def _judge_job(stage: Stage, job: JobPlan, shown: Json | None, verdict: Verdict) -> None:
    if job.foreign:
        await _judge_foreign_run(stage, job, shown, verdict)
    if not job.ends:
        await _judge_cut_short(stage, job, shown, verdict)
        return
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
    if job.disputed and not any("differ from" in note for note in shown["notes"]):
        verdict.wrong.append(f"{job.id}: no note of values that contradict each other")


async def _judge_cut_short(
    stage: Stage, job: JobPlan, shown: Json | None, verdict: Verdict
) -> None:
    """Job or account is gone or out of scope: what the run has is right, and it has its end."""
    if shown is None or not shown["run"]:
        return  # it never began
    if shown["state"] != "detached" or not shown["error"]:
        verdict.wrong.append(f"{job.id}: {shown['state']} and not detached with a cause")
    run = await stage.run(shown["run"])
    if run is None:
        return  # chosen and not made
    found = compare(job.published, run["history"])
    verdict.values += found.found
    verdict.doubled += len(found.duplicate)
    for name in ("duplicate", "unexpected"):
        if values := getattr(found, name):
            verdict.wrong.append(f"{job.id}: {len(values)} values {name}, such as {values[:3]}")
    if run["state"] != "failed":
        verdict.wrong.append(f"{job.id}: its run is {run['state']} and not failed")


async def _judge_foreign_run(
    stage: Stage, job: JobPlan, shown: Json | None, verdict: Verdict
) -> None:
    """The run that another tool wrote is as that tool left it."""
    path = f"{PROJECT}/{job.id}"
    run = await stage.run(path)
    values = [
        {name: value for name, value in row.items() if not name.startswith("_")}
        for row in (run or {"history": ()})["history"]
    ]
    if values != [json.loads(row) for row in FOREIGN_ROWS]:
        verdict.wrong.append(f"{job.id}: the run that was there before was written to")
    if shown and shown["run"] == path:
        verdict.wrong.append(f"{job.id}: relayed into a run that was there before")


async def _judge_old_run(
    stage: Stage,
    job: JobPlan,
    jobs: dict[tuple[str, str], Json],
    here: str,
    before: str,
    verdict: Verdict,
) -> None:
    """The run that a moved account began has its end, and the job goes on in another one."""
    old, new = jobs.get((before, job.id)), jobs.get((here, job.id))
    if old is None or not old["run"]:
        return
    run = await stage.run(old["run"])
    if run is None:
        return
    if run["state"] != "failed":
        verdict.wrong.append(f"{job.id}: its run before the move is {run['state']}")
    if new and new["run"] == old["run"]:
        verdict.wrong.append(f"{job.id}: goes on in the run of the account before the move")


async def _judge_account(stage: Stage, plan: Plan, shown: Json | None, verdict: Verdict) -> None:
    if plan.fate == Fate.DELETED:
        if shown is not None:
            verdict.wrong.append(f"{plan.account}: shown after its deletion")
        return
    if plan.fate == Fate.OUT:
        if shown is not None and shown["in_scope"]:
            verdict.wrong.append(f"{plan.account}: in scope after it was opted out")
        return
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
    if not plan.fate.is_final and (version not in good or (newest in good and version != newest)):
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


async def _restore_keys(stage: Stage, plans: list[Plan], played: Played) -> None:
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
            value = f"wandb_v1_restored_{plan.seed}_".ljust(86, "m")
            version = await stage.put_key(plan.secret, value, "active")
            played.newest[plan.secret] = version
            stage.good_versions[plan.secret].add(version)
            played.new_keys += 1


async def _close_runs(stage: Stage, plans: list[Plan], helped: set[str]) -> None:
    """Do now for runs without an end what the last look does minutes later."""
    jobs = {(job["account"], job["id"]): job for job in (await stage.status())["jobs"]}
    for plan in plans:
        for job in plan.jobs:
            shown = jobs.get((stage.account_id(plan.account).lower(), job.id))
            if job.id in helped or not job.ends or shown is None or shown["state"] not in _ENDED:
                continue
            run = await stage.run(shown["run"] or f"{PROJECT}/{job.id}")
            if run is None or run["state"] in ("finished", "failed"):
                continue
            helped.add(job.id)
            await _resync(stage, plan, job, force=True)


async def _retry(stage: Stage, plans: list[Plan], retried: set[str]) -> None:
    """Re-sync jobs that were set aside, now that what they met is over."""
    jobs = {(job["account"], job["id"]): job for job in (await stage.status())["jobs"]}
    for plan in plans:
        for job in plan.jobs:
            shown = jobs.get((stage.account_id(plan.account).lower(), job.id))
            if job.ends and shown and (shown["error"] or shown["state"] == "parked"):
                retried.add(job.id)
                await _resync(stage, plan, job, force=shown["state"] in _ENDED)


async def _resync(stage: Stage, plan: Plan, job: JobPlan, *, force: bool) -> None:
    body = {
        "scope": "job",
        "account": stage.account_id(plan.account),
        "job": job.id,
        "parts": ["jobs"],
        "force": force,
    }
    await stage.app("POST", "/api/resync", body)


async def _nothing_more_to_write(stage: Stage, plans: list[Plan], found: list[Verdict]) -> None:
    """One more pass over everything must find nothing to do."""
    before = {item["name"]: item["checked_at"] for item in (await stage.status())["accounts"]}
    await stage.control("DELETE", "requests")
    await stage.next_pass()
    end = time.monotonic() + 30
    names = {plan.account for plan in plans if not plan.fate.is_final}
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
    """Every message that a host can take must come to an end: done, or in poison with a cause."""
    end = time.monotonic() + 45
    while True:
        waiting = await stage.waiting()
        if not any(waiting[name] for name in waiting if name.endswith("-poison")) and all(
            count <= 2 for count in waiting.values()
        ):
            return  # with a tick every few seconds a message or two may be on their way
        if time.monotonic() > end:
            found[0].wrong.append(f"messages came to no end: {waiting}")
            return
        await asyncio.sleep(1)
