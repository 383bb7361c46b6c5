"""What a job has used: time by phase, tokens, and what that costs by the user's price list.

An estimate until Azure says what it bills; Azure's invoice is what counts.
"""

import asyncio
import re
from bisect import insort
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, cast

from msgspec import field

from finetune_wandb.model.accounts.account import RelayAccount
from finetune_wandb.model.errors import AppError, TemporaryError
from finetune_wandb.model.relay.cursor import Kept
from finetune_wandb.model.relay.job import Job
from finetune_wandb.model.relay.ports import JobsPort
from finetune_wandb.model.settings import Prices
from finetune_wandb.relay.published.rows import Event

AUTO_PAUSE_USD: Final = 5000.0
"""Azure pauses reinforcement jobs at this cost.

Source: MicrosoftDocs fine-tuning-cost-management.md (facts/peers.md, finding 10).
"""
_QUEUED, _PREPROCESSING, _WAITING, _TRAINING = range(4)
_QUEUE_STATES: Final = ("queued", "preprocessing", "waiting for GPUs")
_PHASES: Final = (
    (_WAITING, re.compile(r"waiting for gpus", re.IGNORECASE)),
    (_QUEUED, re.compile(r"\b(enqueued|queued)\b", re.IGNORECASE)),
    (_TRAINING, re.compile(r"^(training|fine[- ]tuning job) started", re.IGNORECASE)),
    (
        _PREPROCESSING,
        re.compile(
            r"^(preprocessing|validating|job started|data import|finetuning started)", re.IGNORECASE
        ),
    ),
)
"""Messages that begin a phase. "Job started" and "Finetuning started" come before the wait for
GPUs; only "Training started" begins the training.

Source: event messages of a whole job in microsoft-foundry/fine-tuning,
dpo_finetuning_intel_orca.ipynb, read 2026-11-24.
"""
_BILLED: Final = re.compile(
    r"training (hours|tokens) billed:\s*([0-9][0-9,]{0,14}(?:\.[0-9]{1,9})?)(?![0-9,])",
    re.IGNORECASE,
)
_BYTES_PER_TOKEN: Final = 4.0
"""English text with its JSON. Only an estimate is made with it."""

_HEAD_BYTES: Final = 64 * 1024
_MEASURE_S: Final = 3.0
"""Values wait no longer than this for the size of the training file."""


@dataclass(frozen=True, slots=True)
class Meter:
    """Training time and cost of a job so far; None for what is not known."""

    hours: float | None = None
    """As billed once Azure says so; until then by the clock, without waiting and pauses."""
    cost: float | None = None
    """In USD."""
    is_estimate: bool = True
    """The cost is not made of what Azure says it bills."""
    projected: float | None = None
    """In USD, of the whole job, while it runs."""
    paused_s: float = 0.0


class Usage(Kept):
    """Grows with events."""

    phases: list[tuple[float, int]] = field(default_factory=list)
    """When each phase began (unix seconds), in order; no two neighbours are the same."""
    billed_hours: float | None = None
    billed_tokens: int | None = None
    file: tuple[int, int] | None = None
    """Bytes and rows of the training file, zeros where they cannot be read."""

    def take_event(self, event: Event) -> None:
        """Take note of a phase that begins with an event, or of what it says is billed."""
        if event.step is not None:
            # A value says that training is on, whatever the messages said.
            if event.at is not None and (not self.phases or self.phases[-1][1] != _TRAINING):
                self._begin(event.at, _TRAINING)
            return
        if billed := _BILLED.search(event.message):
            amount = float(billed[2].replace(",", ""))
            if billed[1].lower() == "hours":
                self.billed_hours = amount
            else:
                self.billed_tokens = int(amount)
        elif event.at is not None:
            phase = next((one for one, said in _PHASES if said.search(event.message)), None)
            if phase is not None:
                self._begin(event.at, phase)

    def _begin(self, at: float, phase: int) -> None:
        insort(self.phases, (at, phase))
        before: list[tuple[float, int]] = []
        for one in self.phases:
            if not before or before[-1][1] != one[1]:
                before.append(one)
        self.phases = before

    async def measure_file(
        self, jobs: JobsPort, account: RelayAccount, job: Job, prices: Prices
    ) -> None:
        """Learn once how large the training file is, and by its beginning how many rows it has,
        where its tokens have a price."""
        price = price_of(job, prices)
        is_priced = "usd_per_1k_tokens" in price and not job.is_reinforcement
        if self.file is not None or job.is_terminal or not is_priced:
            return
        head = b""
        try:
            async with asyncio.timeout(_MEASURE_S):
                size = (await jobs.describe_file(account, job.training_file)).get("bytes")
                content = cast("AsyncGenerator[bytes]", jobs.read_file(account, job.training_file))
                async with aclosing(content):
                    async for chunk in content:
                        head += chunk
                        if len(head) >= _HEAD_BYTES:
                            break
        except (TemporaryError, TimeoutError):
            return  # asked again with the next pass; values do not wait for an estimate
        except AppError:
            size = 0
        size = size if isinstance(size, int) and head else 0
        self.file = (size, round(size * len(head.splitlines()) / len(head)) if size else 0)

    def expected_steps(self, job: Job) -> int | None:
        """Return about how many steps a job takes: its rows in batches, once in each epoch."""
        batch, epochs = (job.hyperparameters.get(name) for name in ("batch_size", "n_epochs"))
        rows = self.file[1] if self.file else 0
        if not rows or type(batch) is not int or type(epochs) is not int or batch < 1:
            return None
        return -(-rows // batch) * epochs

    @property
    def last_phase_at(self) -> float | None:
        """When the present phase began (unix seconds)."""
        return self.phases[-1][0] if self.phases else None

    def queue_state(self, job: Job) -> str:
        """Return what a job that does not train yet is waiting for; empty for any other."""
        if job.is_terminal or job.is_paused:
            return ""
        if self.phases:
            phase = self.phases[-1][1]
            return "" if phase == _TRAINING else _QUEUE_STATES[phase]
        if job.status == "validating_files":
            return _QUEUE_STATES[_PREPROCESSING]
        return _QUEUE_STATES[_QUEUED] if job.is_waiting else ""

    def times(self, job: Job, paused_s: float) -> dict[str, float]:
        """Return the summary's durations in seconds: those that are over."""
        start, end = job.created_at, job.finished_at if job.is_terminal else None
        found: dict[str, float] = {}
        if start is None or (end is not None and end < start):
            return found
        has_trained = any(phase == _TRAINING for _, phase in self.phases)
        if has_trained or (end is not None and self.phases):
            spent = self._spent(start, self.phases[-1][0] if end is None else end)
            found["queue_seconds"] = spent[_QUEUED] + spent[_WAITING]
            if spent[_PREPROCESSING]:
                found["preprocessing_seconds"] = spent[_PREPROCESSING]
            if has_trained and end is not None:
                found["training_seconds"] = max(spent[_TRAINING] - paused_s, 0.0)
        if end is not None:
            found["total_seconds"] = end - start
        return found

    def _spent(self, start: float, end: float) -> list[float]:
        """Return the seconds of each phase between two times; before the first it is queued."""
        spent = [0.0] * 4
        began, phase = start, _QUEUED
        for at, following in [*self.phases, (end, _QUEUED)]:
            at = min(max(at, began), end)
            spent[phase] += max(at - began, 0.0)
            began, phase = at, following
        return spent

    def meter(
        self, job: Job, prices: Prices, *, paused_s: float, progress: float | None, now: float
    ) -> Meter:
        """Return a job's meter. `progress` is the share of its steps that are done, 0 to 1."""
        hours = self._hours(job, paused_s, now)
        price = price_of(job, prices)
        done = 1.0 if job.status == "succeeded" else progress
        spent: list[float] = []
        wholes: list[float] = []
        is_billed = job.is_terminal
        if (rate := price.get("usd_per_hour")) is not None:
            is_billed = is_billed and self.billed_hours is not None
            if hours is not None:
                spent.append(rate * hours)
                wholes += [rate * hours / done] if done else []
        if (rate := price.get("usd_per_1k_tokens")) is not None:
            is_billed = is_billed and self.billed_tokens is not None
            tokens, whole = self._tokens(job, done)
            spent += [] if tokens is None else [rate * tokens / 1000]
            wholes += [] if whole is None else [rate * whole / 1000]
        projects = wholes and len(wholes) == len(price) and not job.is_terminal
        return Meter(
            hours,
            round(sum(spent), 4) if spent else None,
            not is_billed,
            round(sum(wholes), 4) if projects else None,
            paused_s,
        )

    def _tokens(self, job: Job, done: float | None) -> tuple[float | None, float | None]:
        """Return the tokens that are paid for until now, and those of the whole job."""
        if self.billed_tokens is not None and job.is_terminal:
            return self.billed_tokens, None
        expected = self._expected_tokens(job)
        tokens: float | None = job.trained_tokens
        if not tokens and not job.is_terminal:
            tokens = None  # not counted yet
        if tokens is None and expected is not None and done is not None:
            tokens = expected * done
        return tokens, tokens / done if tokens and done else expected

    def _hours(self, job: Job, paused_s: float, now: float) -> float | None:
        if self.billed_hours is not None and job.is_terminal:
            return self.billed_hours
        began = next((at for at, phase in self.phases if phase == _TRAINING), None)
        if began is None:
            return self.billed_hours
        end = job.finished_at if job.is_terminal and job.finished_at is not None else now
        trained = max(self._spent(began, end)[_TRAINING] - paused_s, 0.0) / 3600
        # A job that was paused and goes on costs more than what was billed at the pause.
        return max(trained, self.billed_hours or 0.0)

    def _expected_tokens(self, job: Job) -> float | None:
        """Return about how many tokens the whole job trains: its file, once in each epoch."""
        epochs = job.hyperparameters.get("n_epochs")
        if not self.file or not self.file[0] or type(epochs) is not int or epochs < 1:
            return None
        return self.file[0] / _BYTES_PER_TOKEN * epochs


def price_of(job: Job, prices: Prices) -> Mapping[str, float]:
    """Return the price for a job, empty for none: by its training type, else by the longest
    matching model name."""
    if by_type := prices.get(job.training_type.lower()):
        return by_type
    matching = [name for name in prices if name and job.model.lower().startswith(name)]
    return prices[max(matching, key=len)] if matching else {}
