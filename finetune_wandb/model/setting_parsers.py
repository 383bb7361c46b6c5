"""Readers of single settings: text in, typed value out, ValueError with what is wrong.

Error texts never repeat the value: what was pasted into the wrong field may be a secret.
"""

import json
import math
from collections.abc import Callable, Mapping
from urllib.parse import SplitResult, urlsplit

from finetune_wandb.model import ids
from finetune_wandb.model.errors import NoticeError

Prices = Mapping[str, Mapping[str, float]]
_MOST_USD = 1e9
"""Upper limit of a price per hour or per thousand tokens."""
_MOST_TAG = 64
"""Characters that W&B takes in a tag."""
ALERTS = ("failed", "stalled", "diverging", "gap", "cost", "pause")


def text(value: str) -> str:
    return value


def list(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def lower_list(value: str) -> tuple[str, ...]:
    return tuple(part.lower() for part in list(value))


def tags(value: str) -> tuple[str, ...]:
    found = list(value)
    for place, part in enumerate(found, start=1):
        if len(part) > _MOST_TAG:
            raise ValueError(f"entry {place} is longer than {_MOST_TAG} characters")
    return found


def subscriptions(value: str) -> tuple[str, ...]:
    found = lower_list(value)
    if not found:
        raise ValueError("is empty")
    for place, part in enumerate(found, start=1):
        if not ids.is_guid(part):
            # The value is not repeated: what was pasted into the wrong field may be a secret.
            raise ValueError(f"entry {place} is not a subscription id")
    return tuple(dict.fromkeys(found))


def vault(value: str) -> ids.VaultAddress:
    try:
        return ids.parse_vault_url(value)
    except NoticeError as error:
        raise ValueError(error.message) from None


def vault_names(value: str) -> tuple[str, ...]:
    found = lower_list(value)
    for place, part in enumerate(found, start=1):
        if not ids.is_vault_name(part):
            raise ValueError(f"entry {place} is not a vault name (a name alone, not its URL)")
    return found


def secret_name(value: str) -> str:
    if not ids.is_secret_name(value):
        raise ValueError("is not a secret name (1-127 letters, digits, hyphens)")
    return value


def secret_names(value: str) -> tuple[str, ...]:
    return tuple(secret_name(part).lower() for part in list(value))


def url(value: str) -> str:
    parts = urlsplit(value)
    local = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if (
        parts.scheme not in ("https", "http")
        or not parts.hostname
        or parts.username is not None
        or not _is_port(parts)
    ):
        raise ValueError("is not a URL")
    if any(char.isspace() or char in "?#\\" for char in value):
        # Paths are appended to it, so that nothing may end the path before them.
        raise ValueError("must be a URL that ends with its path, without blanks")
    if parts.scheme == "http" and not local:
        # A key sent in clear over a network is a key given away.
        raise ValueError("must be https (http is taken on this machine only)")
    return value.rstrip("/")


def _is_port(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:
        # Its text repeats the value.
        return False


def optional_url(value: str) -> str:
    return url(value) if value else ""


def entity(value: str) -> str:
    if value and not ids.is_entity_name(value):
        raise ValueError("is not a W&B team or user (1-128 letters, digits, _ . -)")
    return value


def project(value: str) -> str:
    if not ids.is_project_name(value):
        raise ValueError("is not a W&B project name (1-128 characters, none of / \\ # ? % :)")
    return value


def choice(*choices: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        for choice in choices:
            if value.lower() == choice.lower():
                return choice
        raise ValueError(f"is not one of {', '.join(choices)}")

    return parse


def number(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError("is not a number of 0 or more")
    return number


def time_span(value: str) -> float:
    found = number(value)
    if found > _LONGEST:
        raise ValueError(f"is more than {_LONGEST}")
    return found


_LONGEST = 100_000
"""Days or hours; a date much further away cannot be computed."""


def positive_time_span(value: str) -> float:
    found = time_span(value)
    if not found:
        raise ValueError("is not a number above 0")
    return found


def alerts(value: str) -> tuple[str, ...]:
    chosen = lower_list(value)
    if chosen == ("none",):
        return ()
    if any(name not in ALERTS for name in chosen):
        raise ValueError(f"may name only {', '.join(ALERTS)}")
    return chosen


def prices(value: str) -> Prices:
    if not value:
        return {}
    try:
        found = json.loads(value)
    except ValueError:
        raise ValueError("is not JSON") from None
    if not isinstance(found, dict):
        raise ValueError("is not a JSON object")
    for place, price in enumerate(found.values(), start=1):
        if (
            not isinstance(price, dict)
            or not price
            or set(price) - {"usd_per_hour", "usd_per_1k_tokens"}
            or any(type(one) not in (int, float) for one in price.values())
            or not all(0 <= one < _MOST_USD for one in price.values())  # false for NaN too
        ):
            raise ValueError(
                f"entry {place} must hold usd_per_hour or usd_per_1k_tokens as numbers of 0 or more"
            )
    return {str(name).lower(): price for name, price in found.items()}
