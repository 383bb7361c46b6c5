"""Rules of accounts in ARM that no SDK shows: envelopes, identities, tags, names, kinds."""

import asyncio

import pytest

from tests.dev.sandbox.stage import SUBSCRIPTION, Client, account_body, account_path


async def _put(sandbox: Client, name: str, **more: object) -> dict[str, object]:
    status, body, _ = await sandbox.call("PUT", account_path(name), account_body(name, **more))
    assert status in (200, 201), body
    return dict(body)


async def test_put_answers_201_then_200_when_repeated(sandbox: Client) -> None:
    path, body = account_path("alpha"), account_body("alpha", tags={"a": "1"})
    assert (await sandbox.call("PUT", path, body))[0] == 201
    status, again, headers = await sandbox.call("PUT", path, account_body("alpha"))
    assert (status, again["tags"]) == (200, {})
    assert headers["x-ms-request-id"]


async def test_account_is_found_when_fixed_segments_and_names_differ_in_case(
    sandbox: Client,
) -> None:
    await _put(sandbox, "alpha")
    status, body, _ = await sandbox.call("GET", account_path("ALPHA").replace("Groups", "groups"))
    assert (status, body["name"]) == (200, "alpha")


async def test_tags_are_replaced_whole_when_patched(sandbox: Client) -> None:
    await _put(sandbox, "alpha", tags={"a": "1", "b": "2"})
    _, body, _ = await sandbox.call("PATCH", account_path("alpha"), {"tags": {"c": "3"}})
    assert body["tags"] == {"c": "3"}
    assert body["properties"]["customSubDomainName"] == "alpha"


async def test_principal_is_new_when_identity_goes_off_and_on(sandbox: Client) -> None:
    first = await _put(sandbox, "alpha", identity={"type": "SystemAssigned"})
    path = account_path("alpha")
    _, off, _ = await sandbox.call("PATCH", path, {"identity": {"type": "None"}})
    assert off["identity"] == {"type": "None"}
    _, on, _ = await sandbox.call("PATCH", path, {"identity": {"type": "SystemAssigned"}})
    assert on["identity"]["principalId"] != first["identity"]["principalId"]  # type: ignore[index]


async def test_identity_stays_when_a_write_does_not_name_it(sandbox: Client) -> None:
    first = await _put(sandbox, "alpha", identity={"type": "SystemAssigned"})
    assert (await _put(sandbox, "alpha"))["identity"] == first["identity"]


async def test_principal_shows_late_but_stays_the_same_when_delayed(sandbox: Client) -> None:
    await sandbox.settings(identity_delay_s=0.3)
    first = await _put(sandbox, "alpha", identity={"type": "SystemAssigned"})
    assert first["identity"]["principalId"] is None  # type: ignore[index]
    _, tagged, _ = await sandbox.call("PATCH", account_path("alpha"), {"tags": {"a": "b"}})
    assert tagged["identity"]["principalId"] is None, "another write makes nothing quicker"
    await asyncio.sleep(0.5)
    _, shown, _ = await sandbox.call("GET", account_path("alpha"))
    principal = shown["identity"]["principalId"]
    assert principal
    await sandbox.settings(identity_delay_s=0)
    again = await _put(sandbox, "alpha", identity={"type": "SystemAssigned"})
    assert again["identity"]["principalId"] == principal  # type: ignore[index]


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"kind": "FormRecognizer"}, 400, "UpdateKindNotAllowed"),
        ({"location": "eastus2"}, 409, "InvalidResourceLocation"),
        ({"identity": {"type": "Wrong"}}, 400, "InvalidIdentityValues"),
        ({"identity": {"type": "SystemAssigned, UserAssigned"}}, 400, "InvalidIdentityValues"),
        ({"tags": {"a": 1}}, 400, "InvalidTags"),
        ({"tags": {"a": "x" * 257}}, 400, "InvalidTagNameOrValue"),
        (
            {"properties": {"customSubDomainName": "other"}},
            400,
            "CustomDomainNameCannotBeChanged",
        ),
    ],
    ids=["kind", "place", "identity", "no-ids", "tag-type", "tag-length", "subdomain"],
)
async def test_account_is_unchanged_when_a_change_is_not_allowed(
    sandbox: Client, change: dict[str, object], status: int, code: str
) -> None:
    before = await _put(sandbox, "alpha", identity={"type": "SystemAssigned"})
    got, body, _ = await sandbox.call("PATCH", account_path("alpha"), change)
    assert (got, body["error"]["code"]) == (status, code)
    assert (await sandbox.call("GET", account_path("alpha")))[1] == before


async def test_openai_account_becomes_foundry_when_upgraded(sandbox: Client) -> None:
    await _put(sandbox, "alpha")
    _, body, _ = await sandbox.call("PATCH", account_path("alpha"), {"kind": "AIServices"})
    properties = body["properties"]
    assert properties["endpoint"] == "https://alpha.cognitiveservices.azure.com/"
    assert properties["endpoints"]["AI Foundry API"] == "https://alpha.services.ai.azure.com/"
    assert (
        properties["endpoints"]["OpenAI Language Model Instance API"]
        == "https://alpha.openai.azure.com/"
    )


async def test_endpoint_is_regional_when_there_is_no_subdomain(sandbox: Client) -> None:
    body = await _put(sandbox, "alpha", properties={})
    properties = body["properties"]
    assert isinstance(properties, dict)
    assert properties["endpoint"] == "https://swedencentral.api.cognitive.microsoft.com/"
    assert "customSubDomainName" not in properties


async def test_second_account_is_refused_when_the_subdomain_is_taken(sandbox: Client) -> None:
    await _put(sandbox, "alpha")
    status, body, _ = await sandbox.call("PUT", account_path("beta"), account_body("alpha"))
    assert (status, body["error"]["code"]) == (409, "CustomDomainInUse")
    await sandbox.call("DELETE", account_path("alpha"))
    assert (await sandbox.call("PUT", account_path("beta"), account_body("alpha")))[0] == 201


async def test_tags_api_fails_when_used_on_an_account(sandbox: Client) -> None:
    await _put(sandbox, "alpha")
    path = account_path("alpha") + "/providers/Microsoft.Resources/tags/default"
    status, body, _ = await sandbox.call("PUT", path, {"properties": {"tags": {"a": "b"}}})
    assert (status, body["error"]["code"]) == (400, "ProviderError")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", account_path("none"), None, 404, "ResourceNotFound"),
        ("PATCH", account_path("none"), {}, 404, "ResourceNotFound"),
        ("PUT", account_path("new"), {"kind": "OpenAI"}, 400, "LocationRequired"),
        ("PUT", account_path("new"), {"location": "x"}, 400, "InvalidRequestContent"),
        ("PUT", account_path("new"), [], 400, "InvalidRequestContent"),
        ("POST", account_path("new"), {}, 405, "MethodNotAllowed"),
        (
            "GET",
            "/subscriptions/s/providers/Microsoft.Batch/pools",
            None,
            404,
            "InvalidResourceType",
        ),
    ],
    ids=["get", "patch", "no-location", "no-kind", "no-object", "method", "type"],
)
async def test_error_has_arm_shape_when_request_is_wrong(
    sandbox: Client, method: str, path: str, body: object, status: int, code: str
) -> None:
    got, answer, _ = await sandbox.call(method, path, body)
    assert (got, answer["error"]["code"]) == (status, code)
    assert answer["error"]["message"]


async def test_delete_answers_204_when_there_is_no_account(sandbox: Client) -> None:
    assert (await sandbox.call("DELETE", account_path("none")))[0] == 204


async def test_api_version_is_required_only_when_the_host_is_named(sandbox: Client) -> None:
    path = f"/subscriptions/{SUBSCRIPTION}"
    assert (await sandbox.call("GET", path))[0] == 200
    hosted = f"/_host/management.azure.com{path}"
    status, body, _ = await sandbox.call("GET", hosted)
    assert (status, body["error"]["code"]) == (400, "MissingApiVersionParameter")
    assert (await sandbox.call("GET", f"{hosted}?api-version=2022-12-01"))[0] == 200


async def test_request_is_refused_when_it_has_no_authorization(sandbox: Client) -> None:
    status, body, _ = await sandbox.call("GET", account_path("alpha"), Authorization="")
    assert (status, body["error"]["code"]) == (401, "AuthenticationFailed")


async def test_subscriptions_and_groups_exist_when_a_path_named_them(sandbox: Client) -> None:
    await sandbox.call("PUT", account_path("alpha", "sub-x", "RG-x"), account_body("alpha"))
    _, body, _ = await sandbox.call("GET", "/subscriptions")
    assert {item["subscriptionId"] for item in body["value"]} == {"sub-x", SUBSCRIPTION}
    _, groups, _ = await sandbox.call("GET", "/subscriptions/SUB-X/resourceGroups")
    assert [group["name"] for group in groups["value"]] == ["RG-x"]
    _, group, _ = await sandbox.call("GET", "/subscriptions/sub-x/resourcegroups/rg-x")
    assert group["properties"]["provisioningState"] == "Succeeded"
