"""An account's event: which account is looked at, and what is refused, once, without a write."""

import logging
from typing import Any

import pytest

from finetune_wandb.model.work import Source
from handlers.events import handle
from tests.handlers.events import SCHEMAS, account_written, event
from tests.handlers.stage import ACCOUNT, FOREIGN, OWN, SUBSCRIPTION, FakeApp

CLAIM = "http://schemas.microsoft.com/identity/claims/objectidentifier"


@pytest.fixture
def app() -> FakeApp:
    return FakeApp()


def accounts(app: FakeApp) -> list[str]:
    return [message["account"].lower() for message in app.sent]


@pytest.mark.parametrize("schema", SCHEMAS)
async def test_account_is_looked_at_when_it_was_written(app: FakeApp, schema: str) -> None:
    assert await handle(account_written(schema), Source.ACCOUNT_EVENT, app) == 1
    assert accounts(app) == [ACCOUNT.lower()]
    assert app.sent[0]["kind"] == "account"
    assert app.problems.known == {}


@pytest.mark.parametrize(
    "data",
    [
        {"resourceUri": ACCOUNT.upper().replace("/SUBSCRIPTIONS", "/subscriptions")},
        {"resourceUri": ACCOUNT.replace("resourceGroups", "resourcegroups")},
        {"resourceUri": None, "operationName": "MICROSOFT.COGNITIVESERVICES/ACCOUNTS/WRITE"},
        {"operationName": "Microsoft.CognitiveServices/accounts/delete"},
        {"authorization": None, "claims": []},
        {"authorization": {"evidence": "x"}, "claims": {CLAIM: 5}},
    ],
    ids=str,
)
async def test_account_is_looked_at_when_the_event_is_spelt_otherwise(
    app: FakeApp, data: dict[str, Any]
) -> None:
    await handle(account_written(**data), Source.ACCOUNT_EVENT, app)
    assert accounts(app) == [ACCOUNT.lower()]


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("field", ["resourceInfo", "resourceDetails"])
@pytest.mark.parametrize("kind", ["CreatedOrUpdated", "Deleted"])
async def test_account_is_looked_at_when_a_resource_notification_comes(
    app: FakeApp, schema: str, field: str, kind: str
) -> None:
    found = event(
        f"Microsoft.ResourceNotifications.Resources.{kind}",
        {field: {"id": ACCOUNT, "type": "Microsoft.CognitiveServices/accounts", "tags": {}}},
        schema=schema,
        topic=f"/subscriptions/{SUBSCRIPTION}",
        subject=ACCOUNT,
    )
    await handle(found, Source.ACCOUNT_EVENT, app)
    assert accounts(app) == [ACCOUNT.lower()]


@pytest.mark.parametrize(
    "data",
    [
        {"claims": {CLAIM: OWN}},
        {"claims": {CLAIM: OWN.upper()}},
        {"authorization": {"evidence": {"principalId": OWN.replace("-", "")}}},
    ],
    ids=["claim", "upper case", "evidence"],
)
async def test_nothing_is_sent_when_the_app_wrote_itself(
    app: FakeApp, data: dict[str, Any]
) -> None:
    assert await handle(account_written(**data), Source.ACCOUNT_EVENT, app) == 0
    assert (app.sent, app.problems.known) == ([], {})


async def test_nothing_is_sent_when_the_address_is_a_templates(app: FakeApp) -> None:
    uri = f"/subscriptions/{SUBSCRIPTION}/x/Microsoft.Resources/deployments/d/operations/1"
    await handle(account_written(resourceUri=uri), Source.ACCOUNT_EVENT, app)
    assert (app.sent, app.problems.known) == ([], {})


async def test_accounts_of_the_vault_are_looked_at_when_a_role_was_removed(app: FakeApp) -> None:
    app.entry()
    app.entry(ACCOUNT.replace("aoai-one", "elsewhere"), "kv-other.vault.azure.net")
    scope = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers"
    uri = (
        f"{scope}/Microsoft.KeyVault/vaults/kv-main/providers/Microsoft.Authorization"
        "/roleAssignments/1"
    )
    operation = "Microsoft.Authorization/roleAssignments/delete"
    removed = account_written(resourceUri=uri, operationName=operation)
    await handle(removed, Source.ACCOUNT_EVENT, app)
    assert accounts(app) == [ACCOUNT.lower()]


ATTACKS = [
    ("foreign subscription", {"resourceUri": ACCOUNT.replace(SUBSCRIPTION, FOREIGN)}),
    ("traversal", {"resourceUri": f"{ACCOUNT}/../../../x"}),
    ("another resource", {"resourceUri": ACCOUNT.replace("accounts", "vaults")}),
    ("query", {"resourceUri": f"{ACCOUNT}?x=1"}),
    ("markup", {"resourceUri": "<script>alert(1)</script>"}),
    ("a page", {"resourceUri": "https://evil.com" + ACCOUNT}),
    ("line ends", {"resourceUri": f"{ACCOUNT}\r\nHost: evil"}),
    ("huge", {"resourceUri": ACCOUNT + "x" * 1_000_000}),
    ("child", {"operationName": "Microsoft.CognitiveServices/accounts/deployments/write"}),
    ("no operation", {"operationName": None}),
    ("operation of another shape", {"operationName": ["x"]}),
]


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("data", [data for _, data in ATTACKS], ids=[name for name, _ in ATTACKS])
async def test_event_is_refused_once_when_it_is_none_of_the_apps_business(
    app: FakeApp, schema: str, data: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        assert await handle(account_written(schema, **data), Source.ACCOUNT_EVENT, app) == 0
    assert app.sent == []
    assert list(app.problems.known.values()) == [3]
    assert len([one for one in caplog.records if one.levelno >= logging.WARNING]) == 1
    assert all(app.problems.remedies)
    ((_, subject, _),) = app.problems.known
    assert len(subject) <= 200
    for secret in ("PERSONAL NAME", "10.1.2.3", "<script>", "x" * 300):
        assert secret not in caplog.text + repr(app.problems.known)


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("Microsoft.Storage.BlobCreated", {}),
        ("", {}),
        ("x" * 5000, {}),
        ("Microsoft.Resources.ResourceWriteFailure", {}),
        ("Microsoft.Resources.ResourceWriteSuccess", "text"),
        ("Microsoft.Resources.ResourceWriteSuccess", []),
        ("Microsoft.Resources.ResourceWriteSuccess", None),
        ("Microsoft.Resources.ResourceWriteSuccess", {}),
        ("Microsoft.ResourceNotifications.Resources.Deleted", {"resourceInfo": "x"}),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_event_is_refused_when_it_cannot_be_understood(
    app: FakeApp, schema: str, kind: str, data: Any
) -> None:
    assert await handle(event(kind, data, schema=schema), Source.ACCOUNT_EVENT, app) == 0
    assert app.sent == []
    assert len(app.problems.known) == 1


async def test_event_is_refused_when_its_topic_is_foreign(app: FakeApp) -> None:
    found = event(
        "Microsoft.Resources.ResourceWriteSuccess",
        {
            "resourceUri": ACCOUNT,
            "operationName": "Microsoft.CognitiveServices/accounts/write",
        },
        topic=f"/subscriptions/{FOREIGN}",
        subject=ACCOUNT,
    )
    assert await handle(found, Source.ACCOUNT_EVENT, app) == 0
    assert app.sent == []
