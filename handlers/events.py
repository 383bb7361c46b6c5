"""Event Grid triggers: events in either schema, reduced to the parts that may be used.

An event is a hint and its sender is unknown: it can carry personal data and anything else, so
only named, checked parts leave this file and bodies are never logged.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import azure.functions as func

from finetune_wandb.flows.app import App
from finetune_wandb.flows.events import refuse
from finetune_wandb.model.errors import NoticeError
from finetune_wandb.model.messages import Message
from finetune_wandb.model.work import Source

type Event = func.EventGridEvent | func.CloudEvent


@dataclass(frozen=True, slots=True)
class Notice:
    """One event. `data` has lower-case names."""

    type: str
    topic: str
    subject: str
    data: Mapping[str, Any]


type Decide = Callable[[Notice, App], Awaitable[Sequence[Message]]]
"""Returns the messages that an event causes. Raises NoticeError for an event to refuse."""


async def take(event: Event, decide: Decide, source: Source, app: App) -> int:
    """Send the messages that an event causes; return how many.

    An event that cannot be understood or does not concern the app is acknowledged and reported.
    """
    kind = ""
    with app.telemetry.span(source, **{"event.id": str(event.id)[:100]}) as span:
        try:
            notice = read_notice(event)
            kind = f" of {notice.type[:100]}"
            messages = await decide(notice, app)
        except NoticeError as error:
            await refuse(app, source, error, subject=f"{error.subject}{kind}")
            messages = ()
        await app.queues.send(messages)
        span.note(messages=len(messages))
    return len(messages)


def read_notice(event: Event) -> Notice:
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
        kind, topic = event.type, event.source
    else:
        kind, topic = event.event_type, event.topic
    if not isinstance(kind, str) or not kind:
        raise NoticeError("the event has no type", subject="type")
    return Notice(
        type=kind.strip(),
        topic=_text(topic),
        subject=_text(event.subject),
        # Key Vault's own examples have blanks around names and values.
        data={str(name).strip().lower(): value for name, value in body.items()},
    )


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def data_text(notice: Notice, name: str) -> str:
    """Return a text of the event's data without blanks around it, empty where there is none."""
    return _text(notice.data.get(name))


def data_object(notice: Notice, name: str) -> Mapping[str, Any]:
    """Return an object of the event's data, empty where there is none."""
    value = notice.data.get(name)
    return value if isinstance(value, Mapping) else {}
