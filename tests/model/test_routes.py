"""ROUTES: which rule a job meets, what a malformed one is called, what an account can meet."""

import json
import time

import pytest

from finetune_wandb.model.ids import parse_account_id
from finetune_wandb.model.routes import possible_routes, read_routes

SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
ACCOUNT = parse_account_id(
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/RG-Vision/providers"
    "/Microsoft.CognitiveServices/accounts/acc"
)


def routes(*rules: dict[str, object]) -> str:
    return json.dumps(rules)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[{", "truncated"),
        ("{}", "array"),
        ("x", "malformed"),
        ('[{"entity": 3}]', "rule 1, entity"),
        (routes({"entity": "a"}, {"match": {"sufix": "a"}, "project": "p"}), "rule 2, match"),
        (routes({"match": {"metadata": {"a": 1}}, "entity": "a"}), "rule 1, match.metadata"),
        (routes({"project": "p"}, {"match": {"model": "gpt*"}}), "rule 2: sets none of"),
        (routes({"entity": "a/b"}), "rule 1: entity"),
        (routes({"project": "a/b"}), "rule 1: project"),
        (routes({"tags": ["a", " "]}), "rule 1: tag 2"),
        (routes({"group": "g" * 129}), "rule 1: group"),
        (routes(*[{"project": "p"}] * (201)), "more than 200 rules"),
    ],
)
def test_malformed_rule_is_named_by_its_position(text: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        read_routes(text)


@pytest.mark.parametrize(
    ("match", "holds"),
    [
        ({}, True),
        ({"resource_group": "rg-*"}, True),
        ({"resource_group": "rg-text"}, False),
        ({"subscription": SUBSCRIPTION[:8] + "*"}, True),
        ({"subscription": "9*"}, False),
        ({"account_tag": {"TEAM": "vis*"}}, True),
        ({"account_tag": {"team": "text"}}, False),
        ({"account_tag": {"absent": "*"}}, False),
        ({"account_tag": {"team": "vision"}, "resource_group": "other"}, False),
        ({"model": "GPT-4.1-*"}, True),
        ({"model": "o4-mini*"}, False),
        ({"suffix": "exp-?"}, True),
        ({"suffix": "exp"}, False),
        ({"metadata": {"purpose": "prod*"}}, True),
        ({"metadata": {"Purpose": "*"}}, False),
        ({"metadata": {"purpose": "test"}}, False),
    ],
)
def test_rule_holds_when_all_its_conditions_hold(match: dict[str, object], holds: bool) -> None:
    (rule,) = read_routes(routes({"match": match, "project": "p"}))
    found = rule.match.takes_account(ACCOUNT, {"Team": "Vision"}) and rule.match.takes_job(
        "gpt-4.1-mini-2025-04-14", "exp-7", {"purpose": "production"}
    )
    assert found is holds


def test_account_meets_rules_up_to_the_first_that_takes_every_job() -> None:
    rules = read_routes(
        routes(
            {"match": {"account_tag": {"team": "text"}}, "project": "text"},
            {"match": {"suffix": "exp-*"}, "project": "experiments"},
            {"match": {"resource_group": "rg-vision"}, "project": "vision"},
            {"project": "hidden by the rule before"},
        )
    )
    assert list(possible_routes(rules, ACCOUNT, {"team": "vision"})) == [2, 3]


def test_pattern_that_could_be_tried_in_many_ways_costs_nothing() -> None:
    pattern = "*a" * 60 + "*b"
    (rule,) = read_routes(routes({"match": {"suffix": pattern}, "project": "p"}))
    began = time.monotonic()
    assert not rule.match.takes_job("", "a" * 2000, {})
    assert time.monotonic() - began < 1
