"""The control paths: secrets, settings, faults, the request log, reset, and their bad bodies."""

import asyncio
import time
from io import BytesIO
from typing import Any

import aiohttp
import pytest

from tests.dev.sandbox.stage import SUBSCRIPTION, Client, account_body, account_path, vault_path

KEY_PATH = "/_host/team-vault.vault.azure.net/secrets/key"


async def test_vault_comes_into_being_when_a_secret_is_put(sandbox: Client) -> None:
    made = await sandbox.control("PUT", "vaults/Team-Vault/secrets/key", {"value": "v"})
    assert made["id"] == f"https://team-vault.vault.azure.net/secrets/key/{made['version']}"
    _, body, _ = await sandbox.call(
        "GET", f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.KeyVault/vaults"
    )
    (vault,) = body["value"]
    assert (vault["name"], vault["properties"]["enableRbacAuthorization"]) == ("Team-Vault", True)


async def test_secrets_stay_when_arm_says_where_an_implicit_vault_belongs(sandbox: Client) -> None:
    await sandbox.control("PUT", "vaults/team-vault/secrets/key", {"value": "v"})
    path = vault_path("team-vault", "other-sub", "rg-x")
    body = {"location": "eastus", "properties": {"enableRbacAuthorization": False}}
    assert (await sandbox.call("PUT", path, body))[0] == 201
    assert (await sandbox.call("GET", KEY_PATH))[1]["value"] == "v"
    assert (await sandbox.call("GET", vault_path("team-vault", group="sandbox-rg")))[0] == 404
    status, answer, _ = await sandbox.call("PUT", vault_path("team-vault"), body)
    assert (status, answer["error"]["code"]) == (409, "VaultAlreadyExists")


@pytest.mark.parametrize(
    ("expires", "seconds"),
    [
        ("2027-01-01", 1_798_761_600),
        ("2027-01-01T00:00:00Z", 1_798_761_600),
        ("2027-01-01T02:00:00+02:00", 1_798_761_600),
        (1_798_761_600.7, 1_798_761_600),
        (None, None),
    ],
    ids=["date", "utc", "zone", "number", "null"],
)
async def test_expiry_is_read_when_written_in_any_known_way(
    sandbox: Client, expires: Any, seconds: int | None
) -> None:
    await sandbox.control(
        "PUT", "vaults/team-vault/secrets/key", {"value": "v", "expires": expires}
    )
    _, body, _ = await sandbox.call("GET", KEY_PATH)
    assert body["attributes"].get("exp") == seconds


async def test_secret_is_disabled_when_put_so(sandbox: Client) -> None:
    body = {"value": "v", "enabled": False}
    await sandbox.control("PUT", "vaults/team-vault/secrets/key", body)
    assert (await sandbox.call("GET", KEY_PATH))[0] == 403


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("PUT", "vaults/team-vault/secrets/key", {"value": 1}, "value"),
        ("PUT", "vaults/team-vault/secrets/key", [], "body"),
        ("PUT", "vaults/team-vault/secrets/key", {"value": "v", "expires": "x"}, "expires"),
        ("PUT", "vaults/team-vault/secrets/key", {"value": "v", "extra": 1}, "extra"),
        ("PUT", "vaults/team-vault/secrets/key", {"value": "v", "enabled": "no"}, "enabled"),
        ("PUT", "vaults/team-vault/secrets/a_b", {"value": "v"}, "secret"),
        ("PUT", "vaults/1/secrets/key", {"value": "v"}, "vault"),
        ("PUT", "vaults/team-vault/access", {"deny": "No"}, "deny"),
        ("PUT", "settings", {"page_size": 0}, "page_size"),
        ("PUT", "settings", {"page_size": 1.5}, "page_size"),
        ("PUT", "settings", {"lro_seconds": True}, "lro_seconds"),
        ("PUT", "settings", {"enforce_vault_access": 1}, "enforce_vault_access"),
        ("PUT", "settings", {"nothing": 1}, "nothing"),
        ("POST", "events", {"events": []}, "function"),
        ("POST", "events", {"function": "f", "events": {}}, "events"),
        ("POST", "faults", {"action": {}}, "action"),
        ("POST", "faults", {"action": {"drop": "now"}}, "action.drop"),
        ("POST", "faults", {"action": {"status": 99}}, "action.status"),
        ("POST", "faults", {"action": {"delay_s": -1}}, "action.delay_s"),
        ("POST", "faults", {"action": {"delay_s": 1, "body": {}}}, "action.status"),
        ("POST", "faults", {"action": {"status": 500, "code": 1}}, "action.code"),
        ("POST", "faults", {"action": {"status": 500, "drop": "after"}}, "action"),
        ("POST", "faults", {"action": {"status": 500}, "service": "azure"}, "service"),
        ("POST", "faults", {"action": {"status": 500}, "times": 0}, "times"),
        ("POST", "faults", {"action": {"status": 500}, "times": "2"}, "times"),
        ("POST", "faults", {"action": {"status": 500}, "probability": 2}, "probability"),
        ("POST", "faults", {"action": {"status": 500}, "path": "/x"}, "path"),
    ],
)
async def test_body_is_refused_with_its_field_when_it_is_wrong(
    sandbox: Client, method: str, path: str, body: Any, field: str
) -> None:
    status, answer, _ = await sandbox.call(method, f"/_sandbox/{path}", body)
    assert (status, answer["field"]) == (400, field)
    assert len(answer["error"]) > len(field) + 2


async def test_body_is_refused_when_it_is_not_json(sandbox: Client) -> None:
    url = f"{sandbox.process.url}/_sandbox/faults"
    async with sandbox.session.post(url, data=b"{") as answer:
        assert (answer.status, (await answer.json())["field"]) == (400, "body")


async def test_settings_go_back_to_their_defaults_when_reset(sandbox: Client) -> None:
    await sandbox.control("POST", "reset")
    before = await sandbox.control("GET", "settings")
    changed = await sandbox.control("PUT", "settings", {"page_size": 7})
    assert changed == before | {"page_size": 7}
    await sandbox.control("POST", "reset")
    assert await sandbox.control("GET", "settings") == before


async def test_requests_are_counted_by_path_and_status_without_host_and_query(
    sandbox: Client,
) -> None:
    path = account_path("alpha")
    for url in (path, f"{path}?x=1", f"/_host/management.azure.com/{path}?api-version=1"):
        await sandbox.call("GET", url)
    (row,) = await sandbox.control("GET", "requests")
    assert row == {"service": "arm", "method": "GET", "path": path, "status": 404, "count": 3}
    assert await sandbox.control("DELETE", "requests") == {"cleared": 1}
    assert await sandbox.control("GET", "requests") == []


async def test_everything_is_gone_when_reset(sandbox: Client) -> None:
    await sandbox.call("PUT", account_path("alpha"), account_body("alpha"))
    await sandbox.control("PUT", "vaults/team-vault/secrets/key", {"value": "v"})
    await sandbox.control("POST", "faults", {"action": {"status": 500}})
    await sandbox.control("POST", "reset")
    assert (await sandbox.call("GET", account_path("alpha")))[0] == 404
    assert await sandbox.control("GET", "faults") == []
    with pytest.raises(aiohttp.ClientError):
        await sandbox.call("GET", KEY_PATH)


async def test_slow_write_does_not_come_back_when_reset_in_between(sandbox: Client) -> None:
    await sandbox.settings(lro_seconds=0.2)
    await sandbox.call("PUT", account_path("alpha"), account_body("alpha"))
    await sandbox.control("POST", "reset")
    await asyncio.sleep(0.4)
    assert (await sandbox.call("GET", account_path("alpha")))[0] == 404


async def _fault(sandbox: Client, action: dict[str, Any], **rule: Any) -> None:
    await sandbox.control("POST", "faults", {"action": action, **rule})


async def test_fault_answers_as_told_until_its_times_are_used_up(sandbox: Client) -> None:
    action = {"status": 429, "headers": {"Retry-After": "3"}, "body": {"error": "slow down"}}
    await _fault(sandbox, action, service="arm", path_contains="/accounts/al", times=2)
    assert (await sandbox.call("GET", account_path("beta")))[0] == 404
    for _ in range(2):
        status, body, headers = await sandbox.call("GET", account_path("alpha"))
        assert (status, body, headers["Retry-After"]) == (429, {"error": "slow down"}, "3")
    assert (await sandbox.call("GET", account_path("alpha")))[0] == 404
    (fault,) = await sandbox.control("GET", "faults")
    assert (fault["times"], fault["hits"]) == (0, 2)


async def test_fault_hits_the_same_calls_when_its_seed_is_the_same(sandbox: Client) -> None:
    async def run() -> list[int]:
        await sandbox.control("DELETE", "faults")
        await _fault(sandbox, {"status": 503}, probability=0.5, seed=7)
        return [(await sandbox.call("GET", account_path("alpha")))[0] for _ in range(20)]

    first = await run()
    assert {404, 503} == set(first)
    assert await run() == first


@pytest.mark.parametrize(("moment", "status"), [("before", 404), ("after", 200)])
async def test_write_counts_only_when_the_answer_was_dropped_after_it(
    sandbox: Client, moment: str, status: int
) -> None:
    # Twice: aiohttp itself repeats a dropped PUT once.
    await _fault(sandbox, {"drop": moment}, method="put", times=2)
    with pytest.raises(aiohttp.ClientError):
        await sandbox.call("PUT", account_path("alpha"), account_body("alpha"))
    (row,) = await sandbox.control("GET", "requests")
    assert (row["status"], row["count"]) == (0, 2)
    assert (await sandbox.call("GET", account_path("alpha")))[0] == status


async def test_answer_is_late_truncated_or_not_json_when_told(sandbox: Client) -> None:
    path = account_path("alpha")
    await _fault(sandbox, {"delay_s": 0.3}, times=1)
    started = time.monotonic()
    assert (await sandbox.call("PUT", path, account_body("alpha")))[0] == 201
    assert time.monotonic() - started >= 0.3
    await _fault(sandbox, {"truncate": True}, times=1)
    with pytest.raises(aiohttp.ClientPayloadError):
        await sandbox.call("GET", path)
    await _fault(sandbox, {"raw_body": "<html>"}, times=1)
    async with sandbox.session.get(
        sandbox.process.url + path, headers={"Authorization": "Bearer any"}
    ) as answer:
        assert await answer.text() == "<html>"


async def test_call_is_held_until_its_rule_is_removed(sandbox: Client) -> None:
    path = account_path("alpha")
    await _fault(sandbox, {"hold": True}, method="GET", skip=1, times=1, name="held")
    assert (await sandbox.call("GET", path))[0] == 404
    held = asyncio.create_task(sandbox.call("GET", path))
    await asyncio.wait([held], timeout=0.5)
    assert (await sandbox.control("GET", "faults"))[0]["hits"] == 1
    # What others do meanwhile is what the held call finds.
    assert (await sandbox.call("PUT", path, account_body("alpha")))[0] == 201
    assert not held.done()
    assert (await sandbox.control("DELETE", "faults/held"))["hits"] == 1
    assert (await held)[0] == 200


async def test_fault_meets_one_host_when_it_names_it(sandbox: Client) -> None:
    for name in ("one-vault", "two-vault"):
        await sandbox.control("PUT", f"vaults/{name}/secrets/key", {"value": "v"})
    await _fault(sandbox, {"status": 500}, host_contains="One-Vault")
    paths = [f"/_host/{name}.vault.azure.net/secrets/key" for name in ("one-vault", "two-vault")]
    assert [(await sandbox.call("GET", path))[0] for path in paths] == [500, 200]


async def test_unknown_control_paths_and_hosts_say_so(sandbox: Client) -> None:
    assert (await sandbox.call("GET", "/_sandbox/nothing"))[0] == 404
    status, body, _ = await sandbox.call("GET", "/_host/example.com/")
    assert (status, body) == (502, {"error": "the sandbox has no host example.com"})
    assert (await sandbox.call("GET", "/_host/notmanagement.azure.com/"))[0] == 502


async def test_job_is_served_on_the_subdomain_when_it_is_put_under_the_accounts_name(
    sandbox: Client,
) -> None:
    await sandbox.call("PUT", account_path("alpha"), account_body("alpha-host"))
    job = {"id": "ftjob-1", "status": "running"}
    await sandbox.control("PUT", "accounts/Alpha/jobs/ftjob-1", {"job": job})
    path = "/_host/alpha-host.openai.azure.com/openai/v1/fine_tuning/jobs/ftjob-1"
    status, body, _ = await sandbox.call("GET", path)
    assert (status, body["status"]) == (200, "running")


async def test_body_of_many_megabytes_is_taken(sandbox: Client) -> None:
    body = b'{"value": "v", "extra": "' + b"x" * 3_000_000 + b'"}'
    url = f"{sandbox.process.url}/_sandbox/vaults/team-vault/secrets/key"
    async with sandbox.session.put(url, data=BytesIO(body)) as answer:
        assert (answer.status, (await answer.json())["field"]) == (400, "extra")


async def test_only_the_named_faults_end_when_a_name_is_given(sandbox: Client) -> None:
    for name in ("one", "two"):
        rule = {"name": name, "path_contains": f"/{name}", "action": {"status": 503}}
        await sandbox.control("POST", "faults", rule)
    assert (await sandbox.call("GET", "/subscriptions/one"))[0] == 503
    assert await sandbox.control("DELETE", "faults/one") == {"cleared": 1, "hits": 1}
    assert (await sandbox.call("GET", "/subscriptions/one"))[0] != 503
    assert (await sandbox.call("GET", "/subscriptions/two"))[0] == 503


async def test_account_has_a_pace_of_its_own_when_one_is_set(sandbox: Client) -> None:
    shown = await sandbox.control("PUT", "settings/slow", {"lro_seconds": 30})
    assert shown == {"lro_seconds": 30, "identity_delay_s": 0.0, "principal_replication_s": 0.0}
    assert (await sandbox.call("PUT", account_path("slow"), account_body("slow")))[0] == 202
    assert (await sandbox.call("PUT", account_path("quick"), account_body("quick")))[0] == 201
    status, answer, _ = await sandbox.call("PUT", "/_sandbox/settings/slow", {"page_size": 3})
    assert (status, answer["field"]) == (400, "page_size")
