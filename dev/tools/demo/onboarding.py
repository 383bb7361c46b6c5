"""Act one: an Azure OpenAI account appears, and is wired to W&B without hands."""

from collections.abc import Mapping
from typing import Final

from dev.tools.demo.cloud import Cloud, Json, until
from dev.tools.demo.screen import Screen
from finetune_wandb.model.causes import causes

ACCOUNT: Final = "aoai-demo"
_APPLIED: Final = {
    "enable_identity": "switched on the account's system-assigned identity",
    "grant_role": "gave that identity its role on the key vault",
    "add_access_policy": "gave that identity an access policy on the key vault",
    "write_record": "noted vault and secret in the account's tags",
}


async def play(cloud: Cloud, screen: Screen, key: str, tags: Mapping[str, str]) -> Json:
    """Create vault, secret and account, wait until the app calls it healthy; return its entry.

    Raises StoryError with the findings when it does not become healthy.
    """
    await cloud.put_vault()
    version = await cloud.put_secret(key)
    screen.say(f"key vault {cloud.vault} holds the W&B key (version {version[:8]}…)")
    await cloud.put_account(ACCOUNT, tags=dict(tags))
    screen.say(f"Azure OpenAI account {ACCOUNT} created; Event Grid tells the app")
    told: set[str] = set()
    last: Json = {}

    async def look() -> Json | None:
        nonlocal last
        last = await cloud.shown_account(ACCOUNT) or {}
        for outcome in last.get("steps", ()):
            _tell(outcome, told, screen)
        return last if last.get("healthy") else None

    entry = await until(look, lambda: _why_not(last), seconds=90)
    identity = (await cloud.read_account(ACCOUNT)).get("identity") or {}
    screen.good(
        f"{ACCOUNT} is healthy: identity {identity.get('type')}, W&B entity {entry['entity']}, "
        f"project {entry['project']}"
    )
    for finding in entry["findings"]:
        if finding["severity"] == "manual":
            screen.say(f"left to a person: {_meaning(finding['cause'])}", "dim")
    return entry


def _tell(outcome: Json, told: set[str], screen: Screen) -> None:
    step = outcome["step"]
    if step["kind"] in told or outcome["state"] != "done":
        return
    told.add(step["kind"])
    screen.say(f"missing: {_meaning(step['cause'])}", "yellow")
    screen.good(f"applied: {_APPLIED.get(step['kind'], step['kind'])}")


def _meaning(code: str) -> str:
    cause = causes().get(code)
    return cause.meaning if cause else code


def _why_not(entry: Json) -> str:
    if not entry:
        return f"the app never saw account {ACCOUNT}: its event did not arrive, or failed"
    blocked = [item for item in entry["findings"] if item["severity"] == "blocked"]
    causes = "; ".join(f"{item['cause']} – {item['remedy']}" for item in blocked)
    failed = [item for item in entry["steps"] if item["state"] != "done"]
    steps = "; ".join(
        f"{item['step']['kind']} {item['state']}: {item['detail']}" for item in failed
    )
    return f"account {ACCOUNT} is not healthy: {causes or 'no cause given'}. Steps: {steps or '-'}"
