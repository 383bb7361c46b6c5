"""A vault's event: which secret is looked at, whatever the document's irregularities and attacks."""

from typing import Any

import pytest

from finetune_wandb.model.work import Source
from handlers.events import handle
from tests.handlers.events import SCHEMAS, VAULT_TOPIC, event, secret_made
from tests.handlers.stage import ACCOUNT, VAULT, FakeApp, settings


@pytest.fixture
def app() -> FakeApp:
    return FakeApp()


def keys(app: FakeApp) -> list[tuple[str, str]]:
    return [(message["vault"], message["secret"]) for message in app.sent]


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("name", ["NewVersionCreated", "NearExpiry", "Expired"])
async def test_key_is_looked_at_when_the_secret_changed(
    app: FakeApp, schema: str, name: str
) -> None:
    data = secret_made().get_json()
    found = event(
        f"Microsoft.KeyVault.Secret{name}",
        data,
        schema=schema,
        topic=VAULT_TOPIC,
        subject="wandb-api-key",
    )
    assert await handle(found, Source.VAULT_EVENT, app) == 1
    assert keys(app) == [(VAULT, "wandb-api-key")]
    assert app.problems.known == {}


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("expires", [None, 1735689600, "1735689600", "", [], "soon", -1])
async def test_key_is_looked_at_when_the_document_is_irregular(
    app: FakeApp, schema: str, expires: Any
) -> None:
    """The documentation's own example has a blank after a name and before a value."""
    found = event(
        "Microsoft.KeyVault.SecretNewVersionCreated",
        {
            "id": f" https://{VAULT}/secrets/wandb-api-key/0123 ",
            "vaultName": "kv-main",
            "ObjectName ": " wandb-api-key",
            "Version": " 0123",
            "EXP": expires,
            "NBF": expires,
            "unknown": {"deep": [1]},
        },
        schema=schema,
        topic=VAULT_TOPIC,
        subject="wandb-api-key",
    )
    await handle(found, Source.VAULT_EVENT, app)
    assert keys(app) == [(VAULT, "wandb-api-key")]


@pytest.mark.parametrize(
    "data",
    [
        {"Id": None},
        {"Id": "", "VaultName": None},
        {"ObjectName": None},
        {"ObjectName": 5, "VaultName": []},
        {"Id": f"HTTPS://{VAULT.upper()}:443/secrets/WANDB-API-KEY/1"},
    ],
    ids=str,
)
async def test_key_is_looked_at_when_parts_are_missing(app: FakeApp, data: dict[str, Any]) -> None:
    await handle(secret_made(**data), Source.VAULT_EVENT, app)
    assert keys(app) == [(VAULT, "wandb-api-key")]


ATTACKS = [
    ("another site", {"Id": "https://evil.com/secrets/wandb-api-key/1"}),
    ("suffix", {"Id": "https://kv-main.vault.azure.net.evil.com/secrets/wandb-api-key/1"}),
    ("address in a path", {"Id": f"https://evil.com/https://{VAULT}/secrets/x/1"}),
    ("user", {"Id": f"https://{VAULT}@evil.com/secrets/wandb-api-key/1"}),
    ("user of the right host", {"Id": f"https://user:pass@{VAULT}/secrets/wandb-api-key/1"}),
    ("port", {"Id": f"https://{VAULT}:8443/secrets/wandb-api-key/1"}),
    ("bad port", {"Id": f"https://{VAULT}:x/secrets/wandb-api-key/1"}),
    ("in clear", {"Id": f"http://{VAULT}/secrets/wandb-api-key/1"}),
    ("fragment", {"Id": f"https://evil.com#{VAULT}"}),
    ("backslash", {"Id": f"https://evil.com\\.{VAULT}/"}),
    ("subdomain", {"Id": f"https://x.{VAULT}/secrets/wandb-api-key/1"}),
    ("another vault", {"Id": "https://kv-other.vault.azure.net/secrets/wandb-api-key/1"}),
    ("another secret", {"ObjectName": "other-secret"}),
    ("secret with a path", {"ObjectName": "../wandb-api-key"}),
    ("markup", {"ObjectName": "<img src=x onerror=alert(1)>"}),
    ("huge", {"Id": f"https://{VAULT}/{'x' * 1_000_000}"}),
    ("vault name with a host", {"Id": None, "VaultName": "evil.com/x"}),
    ("vault name of markup", {"Id": None, "VaultName": "<b>"}),
    ("bracket", {"Id": "https://[::1"}),
]


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("data", [data for _, data in ATTACKS], ids=[name for name, _ in ATTACKS])
async def test_event_is_refused_once_when_it_points_elsewhere(
    app: FakeApp, schema: str, data: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        assert await handle(secret_made(schema, **data), Source.VAULT_EVENT, app) == 0
    assert app.sent == []
    assert list(app.problems.known.values()) == [2]
    shown = caplog.text + repr(app.problems.known) + repr(app.problems.remedies)
    assert "evil" not in shown
    assert "<" not in repr(app.problems.known)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("data", [None, "text", [1], 5])
async def test_event_is_refused_when_its_data_is_no_object(
    app: FakeApp, schema: str, data: Any
) -> None:
    kind = "Microsoft.KeyVault.SecretNewVersionCreated"
    assert await handle(event(kind, data, schema=schema), Source.VAULT_EVENT, app) == 0
    assert len(app.problems.known) == 1


async def test_accounts_are_looked_at_when_a_vaults_policies_changed(app: FakeApp) -> None:
    app.entry()
    app.entry(ACCOUNT.replace("aoai-one", "two"), in_scope=False)
    app.entry(ACCOUNT.replace("aoai-one", "three"), deleted=True)
    found = event(
        "Microsoft.KeyVault.VaultAccessPolicyChanged",
        {"Id": None, "VaultName": "kv-main", "ObjectType": None, "ObjectName": None},
        topic=VAULT_TOPIC,
        subject="kv-main",
    )
    await handle(found, Source.VAULT_EVENT, app)
    assert [message["account"] for message in app.sent] == [ACCOUNT]


async def test_vault_of_another_cloud_is_taken_when_it_is_the_configured_one() -> None:
    app = FakeApp(settings=settings(KEY_VAULT_URL="https://kv-cn.vault.azure.cn"))
    identifier = "https://kv-cn.vault.azure.cn/secrets/wandb-api-key/1"
    await handle(secret_made(Id=identifier), Source.VAULT_EVENT, app)
    assert keys(app) == [("kv-cn.vault.azure.cn", "wandb-api-key")]


async def test_more_secrets_are_taken_when_the_settings_allow_them() -> None:
    app = FakeApp(settings=settings(ALLOWED_SECRETS="wandb-api-key, Team-B"))
    await handle(secret_made(ObjectName="team-b"), Source.VAULT_EVENT, app)
    assert keys(app) == [(VAULT, "team-b")]
