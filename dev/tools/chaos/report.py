"""Adds up what a chaos campaign went through and found."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from dev.tools.chaos.judge import Verdict
from dev.tools.chaos.plan import Plan
from dev.tools.chaos.play import Played


@dataclass(slots=True)
class Totals:
    """Of all batches so far."""

    seed: int
    runs: int = 0
    failed: int = 0
    jobs: int = 0
    values: int = 0
    missing: int = 0
    doubled: int = 0
    helped: int = 0
    retried: int = 0
    live: int = 0
    """Values that were looked for and found while their jobs ran."""
    late: int = 0
    new_keys: int = 0
    faults_hit: int = 0
    host_starts: int = 0
    seconds: float = 0.0
    weather: Counter[str] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)
    """Why the values of so many jobs could be late while they ran."""
    fates: Counter[str] = field(default_factory=Counter)
    boundaries: Counter[str] = field(default_factory=Counter)
    """How many runs had a fault at each boundary, by boundary and kind."""
    failures: list[dict[str, Any]] = field(default_factory=list)

    def add(self, plans: list[Plan], played: Played, verdicts: list[Verdict]) -> None:
        """Add a batch."""
        for plan, verdict in zip(plans, verdicts, strict=True):
            self.runs += 1
            self.jobs += len(plan.jobs)
            self.values += verdict.values
            self.missing += verdict.missing
            self.doubled += verdict.doubled
            self.helped += verdict.helped
            self.retried += verdict.retried
            self.fates[plan.fate] += 1
            self.boundaries.update(plan.boundaries)
            if verdict.wrong:
                self.failed += 1
                self.failures.append({"seed": verdict.seed, "wrong": verdict.wrong})
        self.live += played.live.checked
        self.late += played.live.late_values
        self.causes.update(played.live.causes.values())
        self.new_keys += played.new_keys
        self.faults_hit += played.faults_hit
        self.weather.update(line.split(" s ", 1)[1].split()[0] for line in played.weather)

    def as_json(self) -> dict[str, Any]:
        """Return everything, for the results file."""
        return {name: getattr(self, name) for name in self.__slots__}

    def lines(self) -> list[str]:
        """Return the summary for people."""
        weather = ", ".join(f"{count} × {what}" for what, count in sorted(self.weather.items()))
        return [
            f"{self.runs} runs in {self.seconds:.0f} s, {self.failed} failed; seed {self.seed}",
            f"values: {self.values} in {self.jobs} jobs, missing {self.missing},"
            f" doubled {self.doubled}",
            f"while jobs ran: {self.live} values looked for, late {self.late}; "
            f"{self.causes.total()} jobs had a cause in the status",
            "accounts: " + ", ".join(f"{n} × {fate}" for fate, n in sorted(self.fates.items())),
            f"faults that struck: {self.faults_hit}, drawn from {len(self.boundaries)} kinds at their"
            " boundaries;"
            f" {weather or 'no weather'}",
            f"host starts: {self.host_starts}; runs closed by a later look: {self.helped};"
            f" jobs re-synced by hand: {self.retried};"
            f" keys stored by hand: {self.new_keys}",
        ]
