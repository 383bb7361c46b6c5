"""What travels on the queues comes back as it was; anything else is refused by field."""

from typing import Any

import orjson
import pytest

from finetune_wandb.model.errors import NoticeError
from finetune_wandb.model.messages import (
    AccountMessage,
    ArtifactMessage,
    KeyMessage,
    Message,
    RelayMessage,
    RequeueMessage,
    ResyncMessage,
    read_message,
)
from finetune_wandb.model.secret import secret_at
from finetune_wandb.model.work import ARTIFACTS, RECONCILE, RELAY

SUBSCRIPTION = "11111111-1111-4111-8111-111111111111"
ACCOUNT = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers"
    "/Microsoft.CognitiveServices/accounts/a"
)


@pytest.mark.parametrize(
    "message",
    [
        AccountMessage(account=ACCOUNT, trigger="x", sent_at=1.5, apply=False),
        AccountMessage(account=ACCOUNT),
        KeyMessage(vault="kv-a.vault.azure.net", secret="s", attempt=3),
        ResyncMessage(resync="0" * 32),
        RequeueMessage(sent_at=2.5),
        RelayMessage(account=ACCOUNT, jobs=[{"id": "j", "n": [1.5]}], force=True),
        ArtifactMessage(account=ACCOUNT, jobs=["j"], attempt=2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_message_is_the_same_when_it_travelled(message: Message) -> None:
    assert read_message(message.queue, message.to_json()) == message


def test_message_is_tried_later_without_its_resync_when_it_is_deferred() -> None:
    message = AccountMessage(account=ACCOUNT, sent_at=5.0, apply=False, attempt=2, resync="r")
    later = AccountMessage(account=ACCOUNT, trigger="deferred", apply=False, attempt=3)
    assert message.deferred() == later


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ({}, "kind"),
        ({"kind": "shell"}, "kind"),
        ({"kind": "resync"}, "resync"),
        ({"kind": "resync", "resync": ""}, "resync"),
        ({"kind": "account"}, "account"),
        ({"kind": "account", "account": "/subscriptions/x"}, "account"),
        ({"kind": "account", "account": ACCOUNT, "sent_at": "now"}, "sent_at"),
        ({"kind": "account", "account": ACCOUNT, "sent_at": 1e300}, "sent_at"),
        ({"kind": "account", "account": ACCOUNT, "attempt": True}, "attempt"),
        ({"kind": "account", "account": ACCOUNT, "attempt": 10**30}, "attempt"),
        ({"kind": "account", "account": ACCOUNT, "trigger": []}, "trigger"),
        ({"kind": "account", "account": ACCOUNT, "apply": 0}, "apply"),
        ({"kind": "key", "vault": "evil.com", "secret": "s"}, "vault"),
        ({"kind": "key", "vault": "kv@evil.com", "secret": "s"}, "vault"),
        ({"kind": "key", "vault": "kv-a.vault.azure.net", "secret": "a/b"}, "secret"),
    ],
    ids=str,
)
def test_reconcile_message_is_refused_when_a_field_is_wrong(raw: Any, field: str) -> None:
    body = orjson.dumps(raw) if raw.get("attempt") != 10**30 else str(raw).replace("'", '"')
    with pytest.raises(NoticeError) as caught:
        read_message(RECONCILE, body)
    assert caught.value.subject == field


@pytest.mark.parametrize("queue", [RECONCILE, RELAY, ARTIFACTS])
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"5", b"null", b"\xff\xfe", b"[" * 100_000, '"text"']
)
def test_body_is_refused_when_it_is_not_an_object(queue: str, body: bytes | str) -> None:
    with pytest.raises(NoticeError) as caught:
        read_message(queue, body)
    assert caught.value.subject == "body"


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ({"account": ACCOUNT}, "jobs"),
        ({"account": ACCOUNT, "jobs": {}}, "jobs"),
        ({"account": ACCOUNT, "jobs": [5]}, "jobs"),
        ({"jobs": []}, "account"),
        ({"account": ACCOUNT, "jobs": [], "sent_at": None}, "sent_at"),
        ({"account": ACCOUNT, "jobs": [], "force": 1}, "force"),
    ],
    ids=str,
)
def test_relay_message_is_refused_when_a_field_is_wrong(raw: Any, field: str) -> None:
    with pytest.raises(NoticeError) as caught:
        read_message(RELAY, orjson.dumps(raw))
    assert caught.value.subject == field


def test_secret_is_the_same_when_it_is_spelled_otherwise() -> None:
    one, other = secret_at("kv-a.vault.azure.net", "Key"), secret_at("KV-A.vault.azure.net", "key")
    assert one == other
    assert len({one, other}) == 1
    assert one != secret_at("kv-b.vault.azure.net", "Key")
    assert str(one) == "kv-a.vault.azure.net/secrets/Key"
