"""Whoever may tag an account, or send events, gains nothing: tried through the running host."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.e2e.onboarding.place import (
    SECRET,
    SUBSCRIPTION,
    Json,
    Place,
    account_id,
    causes,
    key_of,
    vault_id,
)
from tests.e2e.onboarding.scene import write_event
from tests.e2e.onboarding.scenes import MAIN, TENANT, open_place

pytestmark = [
    pytest.mark.stack,
    pytest.mark.sandbox_only,
    pytest.mark.asyncio(loop_scope="module"),
]

EVIL = "kv-evil"
OTHER_SUBSCRIPTION = "99999999-0000-4000-8000-000000000009"
PRIVATE = ("Somebody Private", "203.0.113.77", "private@example.com")

TAGS: dict[str, tuple[dict[str, str], str]] = {
    "a vault of the attacker": (
        {"wandb-key-vault-url": f"https://{EVIL}.vault.azure.net"},
        "vault_not_allowed",
    ),
    "a host that ends otherwise": (
        {"wandb-key-vault-url": f"https://{MAIN}.vault.azure.net.evil.example"},
        "vault_url_malformed",
    ),
    "a host that begins alike": (
        {"wandb-key-vault-url": f"https://{MAIN}.vault-azure.net"},
        "vault_url_malformed",
    ),
    "the vault as a user name": (
        {"wandb-key-vault-url": f"https://{MAIN}.vault.azure.net@evil.example"},
        "vault_url_malformed",
    ),
    "a user name before the vault": (
        {"wandb-key-vault-url": f"https://evil:x@{MAIN}.vault.azure.net"},
        "vault_url_malformed",
    ),
    "another port": (
        {"wandb-key-vault-url": f"https://{MAIN}.vault.azure.net:8443"},
        "vault_url_malformed",
    ),
    "no encryption": (
        {"wandb-key-vault-url": f"http://{MAIN}.vault.azure.net"},
        "vault_url_malformed",
    ),
    "a deeper name": (
        {"wandb-key-vault-url": f"https://{EVIL}.{MAIN}.vault.azure.net"},
        "vault_url_malformed",
    ),
    "the same name in another cloud": (
        {"wandb-key-vault-url": f"https://{MAIN}.vault.azure.cn"},
        "vault_not_allowed",
    ),
    "letters that look alike": (
        {"wandb-key-vault-url": "https://kv-sаndbox.vault.azure.net"},
        "vault_url_malformed",
    ),
    "another secret of the vault": ({"wandb-secret-name": "db-password"}, "secret_not_allowed"),
    "a path for a secret": (
        {"wandb-secret-name": f"{SECRET}/../db-password"},
        "secret_name_malformed",
    ),
    "a query for a secret": (
        {"wandb-secret-name": f"{SECRET}?x=1"},
        "secret_name_malformed",
    ),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    async with open_place(tmp_path_factory.mktemp("run")) as opened:
        await opened.make_vault(EVIL, tenantId=TENANT)
        await opened.put_secret(EVIL)
        body = {"value": "the-database-password-" + "p" * 40}
        await opened.control("PUT", f"vaults/{MAIN}/secrets/db-password", body)
        yield opened


async def refusals(place: Place, function: str) -> int:
    """Return how many events a function has refused so far, by the status answer."""
    problems = (await place.status())["problems"]
    return sum(item["count"] for item in problems if item["source"] == function)


async def asked(place: Place) -> list[tuple[str, str]]:
    """Return (service, path) of everything the sandbox was asked."""
    return [(service, path) for service, _, path, _ in await place.requests()]


@pytest.mark.parametrize("attack", TAGS)
async def test_nothing_is_read_elsewhere_when_a_tag_points_there(place: Place, attack: str) -> None:
    tags, cause = TAGS[attack]
    name = f"acc-tag-{list(TAGS).index(attack):02d}"
    before = await asked(place)
    await place.make_account(name, tags=tags)
    entry = await place.entry_when(name, lambda found: cause in causes(found, "blocked"))
    evil = key_of(EVIL)
    assert evil not in str(entry)
    new = [item for item in await asked(place) if item not in before]
    assert not [path for service, path in new if service == "vault" and SECRET not in path]
    assert not [path for _, path in new if EVIL in path or "db-password" in path]
    # What the attacker set is left as it is, and reported.
    account = await place.account(name)
    assert tags.items() <= account["tags"].items()


def vault_notice(identifier: str, topic: str = "", name: str = SECRET, **more: Json) -> Json:
    return {
        "id": str(uuid4()),
        "topic": topic or vault_id(MAIN),
        "subject": name,
        "eventType": "Microsoft.KeyVault.SecretNewVersionCreated",
        "eventTime": "2026-11-24T12:00:00.0000000Z",
        "data": {
            "Id": identifier,
            "VaultName": MAIN,
            "ObjectType": "Secret",
            "ObjectName": name,
            "Version": "1",
            "NBF": None,
            "EXP": None,
        }
        | more,
        "dataVersion": "1",
        "metadataVersion": "1",
    }


FORGED: dict[str, tuple[str, Any]] = {
    "an account of another subscription": (
        "account_event",
        write_event(account_id("acc-forged", OTHER_SUBSCRIPTION)),
    ),
    "a topic of another subscription": (
        "account_event",
        write_event(account_id("acc-forged")) | {"topic": f"/subscriptions/{OTHER_SUBSCRIPTION}"},
    ),
    "another subscription's account under our topic": (
        "account_event",
        write_event(account_id("acc-forged", OTHER_SUBSCRIPTION))
        | {"topic": f"/subscriptions/{SUBSCRIPTION}"},
    ),
    "a path out of the account": (
        "account_event",
        write_event(account_id("acc-forged"), resourceUri=account_id("..%2F..%2Fvaults%2Fx")),
    ),
    "a resource that is no account": (
        "account_event",
        write_event(vault_id(EVIL)),
    ),
    "a vault that is not allowed": (
        "vault_event",
        vault_notice(f"https://{EVIL}.vault.azure.net/secrets/{SECRET}/1", vault_id(EVIL)),
    ),
    "a vault's host that is none": (
        "vault_event",
        vault_notice(f"https://evil.example/secrets/{SECRET}/1"),
    ),
    "a secret that is not allowed": (
        "vault_event",
        vault_notice(f"https://{MAIN}.vault.azure.net/secrets/db-password/1", name="db-password"),
    ),
    "a name that is a path": (
        "vault_event",
        vault_notice("", VaultName=f"{EVIL}.vault.azure.net/secrets/x#"),
    ),
}


@pytest.mark.parametrize("forgery", FORGED)
async def test_event_is_refused_and_reported_when_it_is_forged(place: Place, forgery: str) -> None:
    function, event = FORGED[forgery]
    before, refused = Counter(await asked(place)), await refusals(place, function)
    await place.event(function, event)
    assert await refusals(place, function) == refused + 1
    # Time enough for a message, had one been sent.
    await asyncio.sleep(0.5)
    new = Counter(await asked(place)) - before
    assert not [item for item in new if item[0] in ("arm", "vault", "wandb")], new


@pytest.mark.parametrize(
    ("service", "method", "cause"),
    [
        ("wandb", "POST", "key_unknown"),
        ("vault", "GET", "secret_forbidden"),
        ("arm", "GET", "account_refused"),
    ],
    ids=["W&B", "Key Vault", "Resource Manager"],
)
async def test_credentials_stay_when_a_service_redirects(
    place: Place, service: str, method: str, cause: str
) -> None:
    name = f"acc-redirected-{service}"
    await place.make_account(name, tags={})
    await place.entry_when(name, lambda found: bool(found["healthy"]))
    part = {"wandb": "/graphql", "vault": f"/secrets/{SECRET}", "arm": f"/accounts/{name}"}
    rule = {"service": service, "method": method, "path_contains": part[service], "name": name}
    location = f"{place.stack.sandbox_url}/collected-{service}"
    headers = {"Location": location}
    body: dict[str, Json] = {"error": {"code": "Moved", "message": "elsewhere"}}
    for status in (302, 307):
        action = {"status": status, "headers": headers, "body": body}
        await place.control("POST", "faults", rule | {"action": action})
        # A newer version makes the app ask W&B again.
        found = await place.resync(name)
        hits = (await place.control("DELETE", f"faults/{name}"))["hits"]
        assert hits, found
        assert not [path for _, path in await asked(place) if "collected" in path]
        assert cause in causes(found, "blocked") + causes(found, "warning"), found
    assert (await place.resync(name))["healthy"]


async def test_nothing_private_is_logged_or_shown(place: Place) -> None:
    """After all of the above: claims of events, keys, other secrets' values."""
    event = write_event(account_id("acc-tag-00"))
    event["data"]["claims"]["upn"] = PRIVATE[2]
    event["data"]["httpRequest"] = {"clientIpAddress": PRIVATE[1]}
    await place.event("account_event", event, event | {"eventType": "Unknown.Type"})
    await place.event("vault_event", vault_notice("https://x.example", claims=PRIVATE[0]))
    await asyncio.sleep(0.5)
    hidden = (*PRIVATE, key_of(MAIN), key_of(EVIL), "the-database-password")
    log = (place.stack.run_dir / "host.log").read_text()
    assert "account_event" in log
    shown = str(await place.status()) + str(await place.control("GET", "notices"))
    for text in hidden:
        assert text not in log
        assert text not in shown
