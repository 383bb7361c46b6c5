"""The events that the app publishes: changes of health, failed steps, keys accepted or refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

NoticeType = Literal[
    "WandbRelay.AccountHealthy",
    "WandbRelay.AccountUnhealthy",
    "WandbRelay.StepFailed",
    "WandbRelay.KeyAccepted",
    "WandbRelay.KeyRefused",
    "WandbRelay.KeyExpiring",
    "WandbRelay.JobAlert",
]


@dataclass(frozen=True, slots=True)
class OutgoingNotice:
    """An event that the app publishes. Two with the same `id` are the same event sent twice."""

    id: str
    type: NoticeType
    subject: str
    """ARM id of the account, or the URL of the secret."""
    time: datetime
    data: Mapping[str, Any]
