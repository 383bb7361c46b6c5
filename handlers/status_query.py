"""What a caller of status or dashboard wants to see: filters and a page, each checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from finetune_wandb.flows.status import is_bad
from finetune_wandb.model.cursor import Cursor
from finetune_wandb.model.errors import NoticeError
from finetune_wandb.model.plan import AccountEntry

MOST: Final = 5000
"""Accounts and jobs, each, in one answer; also what an answer has where nothing is said."""
_TRUE: Final = frozenset({"1", "true"})
_FALSE: Final = frozenset({"", "0", "false"})


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusQuery:
    """`page` counts from 1; `limit` holds for accounts and for jobs, each."""

    account: str = ""
    """ARM id or name, in lower case."""
    job: str = ""
    unhealthy: bool = False
    page: int = 1
    limit: int = MOST

    def takes_account(self, entry: AccountEntry) -> bool:
        return self._is_account(entry.key) and not (self.unhealthy and entry.healthy)

    def takes_job(self, cursor: Cursor) -> bool:
        return (
            self._is_account(cursor.account)
            and (not self.job or cursor.job == self.job)
            and not (self.unhealthy and not is_bad(cursor))
        )

    def _is_account(self, key: str) -> bool:
        return not self.account or self.account in (key, key.rpartition("/")[2])

    def cut[T](self, items: list[T]) -> list[T]:
        """Return the items of the wanted page."""
        return items[(self.page - 1) * self.limit : self.page * self.limit]

    def pages(self, *counts: int) -> int:
        """Return how many pages there are for lists of these lengths; at least 1."""
        return max(1, *(-(-count // self.limit) for count in counts))


def read_query(params: Mapping[str, str], *, limit: int = MOST, most: int = MOST) -> StatusQuery:
    """Return the query in a request's parameters. Raises NoticeError naming the wrong one.

    Parameters that are not known are left alone: hosts and proxies add their own.
    """
    return StatusQuery(
        account=_text(params, "account").rstrip("/").lower(),
        job=_text(params, "job"),
        unhealthy=_flag(params, "unhealthy"),
        page=_number(params, "page", 1, 1_000_000),
        limit=_number(params, "limit", limit, most),
    )


def _text(params: Mapping[str, str], name: str) -> str:
    text = (params.get(name) or "").strip()
    if len(text) > 2048:
        raise NoticeError("is too long", subject=name)
    return text


def _flag(params: Mapping[str, str], name: str) -> bool:
    text = _text(params, name).lower()
    if text not in _TRUE | _FALSE:
        raise NoticeError("must be 1 or 0", subject=name)
    return text in _TRUE


def _number(params: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = _text(params, name)
    if not text:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 9 and 1 <= int(text) <= most):
        raise NoticeError(f"must be a number from 1 to {most}", subject=name)
    return int(text)
