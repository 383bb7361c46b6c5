"""A re-sync's body: every wrong field is named, every right one understood."""

from typing import Any

import pytest

from finetune_wandb.model.resync import ResyncRequest
from handlers.problem_details import RequestError
from handlers.resync import request_from_body

SUBSCRIPTION = "11111111-1111-4111-8111-111111111111"
OTHER = "22222222-2222-4222-8222-222222222222"
ACCOUNT = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers"
    "/Microsoft.CognitiveServices/accounts/a"
)


def request(body: Any) -> ResyncRequest:
    return request_from_body(body, subscriptions=(SUBSCRIPTION,))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {}),
        (
            {"scope": "all", "parts": ["jobs"], "mode": "check"},
            {"parts": ("jobs",), "mode": "check"},
        ),
        ({"scope": "account", "account": ACCOUNT}, {"scope": "account", "account": ACCOUNT}),
        ({"scope": "account", "account": ACCOUNT + "/"}, {"scope": "account", "account": ACCOUNT}),
        (
            {"scope": "job", "account": ACCOUNT.upper(), "job": " ftjob-1 ", "force": True},
            {"scope": "job", "account": ACCOUNT.upper(), "job": "ftjob-1", "force": True},
        ),
        ({"since": "2026-01-31"}, {"since": 1769817600.0}),
        ({"since": "2026-01-31T12:00:00Z"}, {"since": 1769860800.0}),
        ({"since": "2026-01-31T12:00:00+02:00"}, {"since": 1769853600.0}),
        ({"since": None, "account": None, "job": ""}, {}),
        ({"parts": ["jobs", "integration", "jobs"]}, {}),
    ],
    ids=str,
)
def test_request_is_understood_when_its_fields_are_right(
    body: Any, expected: dict[str, Any]
) -> None:
    assert request(body) == ResyncRequest(**expected)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "body"),
        ("text", "body"),
        (5, "body"),
        (None, "body"),
        ({"scop": "all"}, "scop"),
        ({"dry-run": True}, "dry-run"),
        ({"x" * 999: 1}, "body"),
        ({"0123456789abcdef0123456789abcdef01234567": 1, "scop": "all"}, "scop"),
        *(
            ({name: 1}, "body")
            for name in ("wandb_v1_Ab12", "a b", "<b>", "", "1a", "a\nb", "pass=word", "é")
        ),
        *(({"scope": bad}, "scope") for bad in ("", "ALL", None, 5, [], {})),
        ({"scope": "account"}, "account"),
        ({"scope": "account", "account": "a"}, "account"),
        ({"scope": "account", "account": ACCOUNT.replace(SUBSCRIPTION, OTHER)}, "account"),
        ({"scope": "account", "account": ACCOUNT + "/../x"}, "account"),
        ({"account": ACCOUNT}, "account"),
        ({"scope": "account", "account": ACCOUNT, "job": "j"}, "job"),
        *(
            ({"scope": "job", "account": ACCOUNT, "job": bad}, "job")
            for bad in ("", "a/b", "../x", "a b", "x" * 3000, 5, [], "a\x00")
        ),
        *(({"parts": bad}, "parts") for bad in ([], "jobs", ["x"], [["jobs"]], {}, [None], 5)),
        *(({"mode": bad}, "mode") for bad in ("", "APPLY", None, 5)),
        *(({"force": bad}, "force") for bad in (1, "true", None)),
        *(({"since": bad}, "since") for bad in ("soon", "2026-13-01", 5, [], "2026-02-30")),
        ({"since": "9999-12-31T23:59:59-14:00"}, "since"),
        ({"since": "9999-12-31T23:59:59.999999Z"}, "since"),
        ({"since": "0001-01-01T00:00:00+14:00"}, "since"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_field_is_named_when_it_is_wrong(body: Any, field: str) -> None:
    with pytest.raises(RequestError) as caught:
        request(body)
    assert (caught.value.status, caught.value.subject) == (400, field)


@pytest.mark.parametrize(
    "body",
    [
        {"wandb_v1_0123456789": "all"},
        {"wandb_v1_0123456789wandb_v1_0123456789": {"scope": "all"}},
        *(
            {"scope": "job", "account": ACCOUNT, "job": "j", name: "wandb_v1_0123456789 "}
            for name in ("scope", "account", "parts", "mode", "since", "force")
        ),
        {"scope": "job", "account": ACCOUNT, "job": "wandb_v1_0123456789/"},
        {"parts": ["wandb_v1_0123456789"]},
        {"scope": "account", "account": ACCOUNT.replace(SUBSCRIPTION, "wandb_v1_0123456789")},
        {"scope": "account", "account": f"{ACCOUNT}/wandb_v1_0123456789"},
        "wandb_v1_0123456789",
        ["wandb_v1_0123456789"],
    ],
    ids=lambda value: str(value)[:70],
)
def test_nothing_that_was_sent_comes_back_when_it_could_be_a_secret(body: Any) -> None:
    with pytest.raises(RequestError) as caught:
        request(body)
    error = caught.value
    assert "wandb_v1" not in f"{error} {error.subject} {error.message} {error.remedy}"
