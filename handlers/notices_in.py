"""Events as they arrive, in either schema, reduced to what may be looked at.

An event is a hint and its sender is unknown: it can carry personal data and anything else, so
only named, checked parts leave this file and bodies are never logged.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import azure.functions as func

from finetune_wandb.model.errors import NoticeError


@dataclass(frozen=True, slots=True)
class Notice:
    """One event. `data` has lower-case names; `at` is unix seconds, None without a usable time."""

    id: str
    type: str
    topic: str
    subject: str
    at: float | None
    data: Mapping[str, Any]


def read_notice(event: func.EventGridEvent | func.CloudEvent) -> Notice:
    """Return what the event says. Raises NoticeError for one that cannot be understood.

    The worker decides by the payload which class it gives, whatever the annotation says.
    """
    try:
        body = event.get_json()
    except ValueError:
        raise NoticeError("the event's data is not JSON", subject="data") from None
    if not isinstance(body, Mapping):
        raise NoticeError("the event's data is not an object", subject="data")
    if isinstance(event, func.CloudEvent):
        kind, topic, moment = event.type, event.source, event.time
    else:
        kind, topic, moment = event.event_type, event.topic, event.event_time
    if not isinstance(kind, str) or not kind:
        raise NoticeError("the event has no type", subject="type")
    return Notice(
        id=_text(event.id),
        type=kind.strip(),
        topic=_text(topic),
        subject=_text(event.subject),
        at=_seconds(moment),
        # Key Vault's own examples have blanks around names and values.
        data={str(name).strip().lower(): value for name, value in body.items()},
    )


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _seconds(moment: object) -> float | None:
    if not isinstance(moment, datetime):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def data_text(notice: Notice, name: str) -> str:
    """Return a text of the event's data without blanks around it, empty where there is none."""
    return _text(notice.data.get(name))


def data_object(notice: Notice, name: str) -> Mapping[str, Any]:
    """Return an object of the event's data, empty where there is none."""
    value = notice.data.get(name)
    return value if isinstance(value, Mapping) else {}
