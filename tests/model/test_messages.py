"""What travels on the queues comes back as it was; anything else is refused by field."""

from typing import Any

import orjson
import pytest

from finetune_wandb.model.errors import NoticeError
from finetune_wandb.model.messages import (
    ReconcileMessage,
    read_artifacts,
    read_reconcile,
    read_relay,
)
from finetune_wandb.model.secret import secret_at

SUBSCRIPTION = "11111111-1111-4111-8111-111111111111"
ACCOUNT = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers"
    "/Microsoft.CognitiveServices/accounts/a"
)


@pytest.mark.parametrize(
    "message",
    [
        ReconcileMessage(kind="account", account=ACCOUNT, trigger="x", sent_at=1.5, apply=False),
        ReconcileMessage(kind="account", account=ACCOUNT),
        ReconcileMessage(kind="key", secret=secret_at("kv-a.vault.azure.net", "s"), attempt=3),
        ReconcileMessage(kind="resync", resync="0" * 32),
    ],
    ids=lambda message: message.kind,
)
def test_message_is_the_same_when_it_travelled(message: ReconcileMessage) -> None:
    assert read_reconcile(orjson.dumps(message.to_json())) == message


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ({}, "kind"),
        ({"kind": "shell"}, "kind"),
        ({"kind": "resync"}, "kind"),
        ({"kind": "account"}, "account"),
        ({"kind": "account", "account": "/subscriptions/x"}, "account"),
        ({"kind": "account", "account": ACCOUNT, "sent_at": "now"}, "sent_at"),
        ({"kind": "account", "account": ACCOUNT, "attempt": True}, "attempt"),
        ({"kind": "account", "account": ACCOUNT, "trigger": []}, "trigger"),
        ({"kind": "key", "vault": "evil.com", "secret": "s"}, "vault"),
        ({"kind": "key", "vault": "kv@evil.com", "secret": "s"}, "vault"),
        ({"kind": "key", "vault": "kv-a.vault.azure.net", "secret": "a/b"}, "secret"),
    ],
    ids=str,
)
def test_reconcile_message_is_refused_when_a_field_is_wrong(raw: Any, field: str) -> None:
    with pytest.raises(NoticeError) as caught:
        read_reconcile(orjson.dumps(raw))
    assert caught.value.subject == field


@pytest.mark.parametrize("read", [read_reconcile, read_relay, read_artifacts])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"5", b"null", b"\xff\xfe", '"text"'])
def test_body_is_refused_when_it_is_no_object(read: Any, body: bytes | str) -> None:
    with pytest.raises(NoticeError) as caught:
        read(body)
    assert caught.value.subject == "body"


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ({"account": ACCOUNT}, "jobs"),
        ({"account": ACCOUNT, "jobs": {}}, "jobs"),
        ({"account": ACCOUNT, "jobs": [5]}, "jobs"),
        ({"jobs": []}, "account"),
        ({"account": ACCOUNT, "jobs": [], "sent_at": None}, "sent_at"),
    ],
    ids=str,
)
def test_relay_message_is_refused_when_a_field_is_wrong(raw: Any, field: str) -> None:
    with pytest.raises(NoticeError) as caught:
        read_relay(orjson.dumps(raw))
    assert caught.value.subject == field


def test_force_is_only_true_when_it_says_so() -> None:
    for value, expected in ((True, True), (False, False), (1, False), ("true", False)):
        raw = {"account": ACCOUNT, "jobs": [{"id": "j"}], "force": value}
        message = read_relay(orjson.dumps(raw))
        assert message.force is expected
        assert message.account.name == "a"


def test_secret_is_the_same_when_it_is_spelled_otherwise() -> None:
    one, other = secret_at("kv-a.vault.azure.net", "Key"), secret_at("KV-A.vault.azure.net", "key")
    assert one == other
    assert len({one, other}) == 1
    assert one != secret_at("kv-b.vault.azure.net", "Key")
    assert str(one) == "kv-a.vault.azure.net/secrets/Key"
