"""Keys and queues on the dashboard."""

from datetime import datetime
from typing import Final

from finetune_wandb.model.key import KeyRecord
from finetune_wandb.model.queues import QueueCount
from handlers import dashboard_parts as parts
from handlers.html import Child, Html, tag
from handlers.status_view import time_view

_EXPIRES_SOON_S: Final = 30 * 86_400
_KEY_COLUMNS: Final = (
    "Secret",
    "Version in use",
    "W&B entity",
    "Accepted",
    "Expires",
    "Newest version",
)


def keys_table(keys: list[KeyRecord], now: datetime) -> Html:
    if not keys:
        return tag("p", "No key was looked at yet.", class_="quiet")
    rows: list[list[Child]] = []
    for record in keys:
        soon = record.expires_at and (record.expires_at - now).total_seconds() < _EXPIRES_SOON_S
        good = bool(record.version) and record.newest_version == record.version
        newest = "in use" if good else record.newest_cause or "not accepted"
        rows.append(
            [
                "/".join(record.secret.key),
                tag("span", record.version[:12] or "none", class_="id"),
                record.entity or "–",
                parts.when(time_view(record.accepted_at)),
                [
                    parts.when(time_view(record.expires_at)),
                    tag("span", "soon", class_="state warning") if soon else None,
                ],
                [
                    tag("span", newest, class_=f"state {'ok' if good else 'blocked'}"),
                    None if good else tag("span", parts.meaning(newest), class_="quiet"),
                ],
            ]
        )
    return parts.stacked("keys", _KEY_COLUMNS, rows)


def queues_table(queues: list[QueueCount]) -> Html:
    rows = [
        tag(
            "tr",
            tag("th", count.name, scope="row"),
            tag("td", str(count.waiting)),
            tag(
                "td", tag("span", str(count.poison), class_="state blocked" if count.poison else "")
            ),
        )
        for count in queues
    ]
    table = tag("table", parts.head("Queue", "Waiting", "Set aside"), tag("tbody", rows))
    return parts.wide("queues", table)
