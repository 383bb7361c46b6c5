"""The OpenAPI document and the handlers say the same, without a running app."""

from datetime import UTC, datetime
from typing import Any, get_args

import orjson
import pytest

import function_app
from finetune_wandb.flows.status import Situation
from finetune_wandb.model.accounts.key import KeyMint, KeyRecord, MintState
from finetune_wandb.model.accounts.report import AccountReport, Finding, Severity
from finetune_wandb.model.audit import AuditPage, Outcome, key_entry
from finetune_wandb.model.ids import parse_account_id
from finetune_wandb.model.relay.cursor import Cursor
from finetune_wandb.model.relay.state import RelayState
from finetune_wandb.model.resync import MODES, PARTS, SCOPES, Resync, ResyncItem, ResyncRequest
from finetune_wandb.model.secret import secret_at
from finetune_wandb.model.settings import ApplyMode
from finetune_wandb.model.work import QueueCount
from handlers import audit, dashboard, resync, status
from handlers.audit import view as audit_view
from handlers.problem_details import RequestError, problem
from handlers.resync import view as resync_view
from handlers.triggers import OPENAPI
from tests.handlers.stage import ACCOUNT, NOW, VAULT

DOCUMENT = orjson.loads(OPENAPI.read_bytes())
SCHEMAS = DOCUMENT["components"]["schemas"]
MOMENT = datetime.fromtimestamp(NOW, UTC)


def routes() -> dict[str, str]:
    """Return the function behind each HTTP route of the app."""
    return {
        f"/{binding['route']}": function.get_function_name()
        for function in function_app.app.get_functions()
        for binding in map(dict, (one.get_dict_repr() for one in function.get_bindings()))
        if binding["type"] == "httpTrigger"
    }


def operation(path: str) -> dict[str, Any]:
    (found,) = DOCUMENT["paths"][path].values()
    return dict(found)


def parameter(path: str, name: str) -> dict[str, Any]:
    for one in operation(path)["parameters"]:
        place = one.get("$ref", "").rpartition("/")[2]
        if name in (one.get("name"), place):
            return dict(one.get("schema") or DOCUMENT["components"]["parameters"][place]["schema"])
    raise AssertionError(f"{path} has no parameter {name}")


def test_every_route_is_described_when_the_app_has_it() -> None:
    described = {path: operation(path)["operationId"] for path in DOCUMENT["paths"]}
    assert described == routes()


def test_limits_are_the_handlers_own() -> None:
    assert parameter("/resync", "wait")["maximum"] == resync.LONGEST_WAIT_S
    assert parameter("/status", "limit") == {
        "type": "integer",
        "minimum": 1,
        "maximum": status.MOST,
        "default": status.MOST,
    }
    assert parameter("/dashboard", "limit") == {
        "type": "integer",
        "minimum": 1,
        "maximum": dashboard.MOST_ON_PAGE,
        "default": dashboard.LIMIT,
    }
    assert parameter("/audit", "limit") == {
        "type": "integer",
        "minimum": 1,
        "maximum": audit.MOST,
        "default": audit.LIMIT,
    }
    too_large = operation("/resync")["responses"]["413"]["description"]
    assert str(resync.MOST_BYTES) in too_large


def test_choices_are_the_models_own() -> None:
    request = SCHEMAS["ResyncRequest"]["properties"]
    assert request["scope"]["enum"] == list(SCOPES)
    assert request["mode"]["enum"] == list(MODES)
    assert request["parts"]["items"]["enum"] == list(PARTS)
    assert set(request) == set(ResyncRequest.__dataclass_fields__)
    assert SCHEMAS["Job"]["properties"]["state"]["enum"] == list(RelayState)
    assert SCHEMAS["AuditEntry"]["properties"]["outcome"]["enum"] == list(get_args(Outcome))
    assert SCHEMAS["Account"]["properties"]["mode"]["enum"] == list(get_args(ApplyMode))
    assert SCHEMAS["Finding"]["properties"]["severity"]["enum"] == list(get_args(Severity))
    rotation = SCHEMAS["Key"]["properties"]["rotation"]["oneOf"][1]
    assert rotation["properties"]["state"]["enum"] == list(get_args(MintState))


def shown() -> dict[str, Any]:
    """Return a status answer in which no list is empty."""
    secret = secret_at(VAULT, "wandb-api-key")
    finding = Finding("identity", "ok", "identity_on")
    change = key_entry(secret, "v1", "key_accepted", "team", trigger="drift", at=MOMENT)
    situation = Situation(
        accounts=[
            AccountReport(
                id=parse_account_id(ACCOUNT), checked_at=MOMENT, mode="full", findings=(finding,)
            )
        ],
        cursors=[Cursor(account=ACCOUNT.lower(), job="ftjob-1")],
        keys=[KeyRecord(secret=secret)],
        key_changes={secret: (change,)},
        mints={secret: KeyMint(secret=secret)},
        problems=[],
        queues=[QueueCount(name="relay-jobs", waiting=0, poison=0)],
    )
    return status.view(situation, status.StatusQuery(), "https://wandb.example")


def resync_shown() -> dict[str, Any]:
    one = Resync(id="a" * 32, request=ResyncRequest(), requested_by="", created_at=NOW)
    return resync_view(one, [ResyncItem(name="account one", account=ACCOUNT)], now=NOW)


def audit_shown() -> dict[str, Any]:
    entry = key_entry(secret_at(VAULT, "key"), "v1", "key_accepted", trigger="drift", at=MOMENT)
    return audit_view(AuditPage((entry,), "row"))


def refusal() -> dict[str, Any]:
    answer = problem(RequestError(400, "must be a date", field="since", remedy="write a date"))
    return dict(orjson.loads(answer.get_body()))


@pytest.mark.parametrize(
    ("answer", "schema"),
    [(shown, "Status"), (resync_shown, "Resync"), (audit_shown, "AuditPage"), (refusal, "Problem")],
    ids=["status", "re-sync", "audit", "refusal"],
)
def test_fields_are_those_of_a_real_answer(answer: Any, schema: str) -> None:
    assert differences(answer(), SCHEMAS[schema], schema) == []


def differences(value: Any, schema: dict[str, Any], place: str) -> list[str]:
    """Return where an answer has other fields than its schema."""
    schema = SCHEMAS[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    if "oneOf" in schema:
        schema = schema["oneOf"][1]
    if isinstance(value, list):
        found = [differences(one, schema["items"], f"{place}[]") for one in value]
        return [line for lines in found for line in lines]
    if not isinstance(value, dict) or "properties" not in schema:
        return []
    wrong = [f"{place}.{name}" for name in set(value) ^ set(schema["properties"])]
    for name in set(value) & set(schema["properties"]):
        wrong += differences(value[name], schema["properties"][name], f"{place}.{name}")
    return wrong
