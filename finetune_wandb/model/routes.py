"""ROUTES: rules that choose a run's entity, project, group and tags; the first match decides.

A rule's conditions must all hold. Texts are patterns as in a shell (`*`, `?`), in any case.
What a job or its account's tags ask for comes first (`relay/run/attributes.py`).
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from finetune_wandb.model.ids import AccountId, is_entity_name, is_project_name

MOST_TAG = 64
"""Bytes that W&B accepts in a tag; a group may have twice as many."""

_MOST_RULES = 200
"""W&B is asked about each place that they name, and each is a finding of each account."""


class Match(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Conditions; an empty one always holds."""

    account_tag: dict[str, str] = {}
    resource_group: str = ""
    subscription: str = ""
    model: str = ""
    """The base model."""
    suffix: str = ""
    metadata: dict[str, str] = {}
    """Of the job."""

    def takes_account(self, account: AccountId, tags: Mapping[str, str]) -> bool:
        """Return whether the conditions on the account hold, whatever the job."""
        known = plain_tags(tags)
        return (
            _fits(account.subscription, self.subscription)
            and _fits(account.group, self.resource_group)
            and all(
                name.lower() in known and _fits(known[name.lower()], wanted)
                for name, wanted in self.account_tag.items()
            )
        )

    def takes_job(self, model: str, suffix: str, metadata: Mapping[str, str]) -> bool:
        """Return whether the conditions on the job hold."""
        return (
            _fits(model, self.model)
            and _fits(suffix, self.suffix)
            and all(
                name in metadata and _fits(metadata[name], wanted)
                for name, wanted in self.metadata.items()
            )
        )


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a run gets; empty fields leave it to the account and the settings."""

    match: Match = Match()
    entity: str = ""
    project: str = ""
    group: str = ""
    tags: tuple[str, ...] = ()

    @property
    def shown(self) -> dict[str, Any]:
        """What it sets, and its conditions, as JSON."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


Routes = tuple[Rule, ...]


def plain_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return an account's tags as they are compared: names in lower case, values without blanks."""
    return {name.lower(): value.strip() for name, value in tags.items()}


def read_routes(text: str) -> Routes:
    """Return the rules. Raises ValueError that says which rule and field is wrong."""
    if not text:
        return ()
    try:
        rules: Routes = msgspec.json.decode(text, type=Routes)
    except msgspec.MsgspecError as error:
        raise ValueError(_where(str(error))) from None
    if len(rules) > _MOST_RULES:
        raise ValueError(f"has more than {_MOST_RULES} rules")
    for place, rule in enumerate(rules, start=1):
        if problem := _problem(rule):
            raise ValueError(f"rule {place}: {problem}")
    return rules


def _where(message: str) -> str:
    """Return msgspec's message with the rule counted from 1 instead of `$[0]`."""
    text, _, path = message.partition(" - at `$")
    if not path.startswith("["):
        return text
    number, _, rest = path.rstrip("`")[1:].partition("]")
    field = rest.lstrip(".")
    place = f"rule {int(number) + 1}" if number.isdecimal() else "a rule"
    return f"{place}{f', {field}' if field else ''}: {text}"


def _problem(rule: Rule) -> str:
    if not (rule.entity or rule.project or rule.group or rule.tags):
        return "sets none of entity, project, group, tags"
    if rule.entity and not is_entity_name(rule.entity):
        return "entity is not the name of a W&B team or user"
    if rule.project and not is_project_name(rule.project):
        return "project is not a W&B project name"
    if len(rule.group.encode()) > 2 * MOST_TAG:
        return f"group is longer than {2 * MOST_TAG} bytes"
    for place, tag in enumerate(rule.tags, start=1):
        if not 0 < len(tag.strip().encode()) <= MOST_TAG:
            return f"tag {place} must have 1 to {MOST_TAG} bytes"
    return ""


def first_match(rules: Routes, model: str, suffix: str, metadata: Mapping[str, str]) -> Rule:
    """Return the first of an account's rules that matches a job; an empty rule if none does."""
    met = (rule for rule in rules if rule.match.takes_job(model, suffix, metadata))
    return next(met, Rule())


def possible_routes(routes: Routes, account: AccountId, tags: Mapping[str, str]) -> dict[int, Rule]:
    """Return the rules that can match jobs of an account, by their position from 1.

    A rule without conditions on the job hides all that follow.
    """
    found: dict[int, Rule] = {}
    for place, rule in enumerate(routes, start=1):
        if rule.match.takes_account(account, tags):
            found[place] = rule
            if not (rule.match.model or rule.match.suffix or rule.match.metadata):
                break
    return found


def _fits(text: str, pattern: str) -> bool:
    return not pattern or fnmatchcase(text.lower(), pattern.lower())
