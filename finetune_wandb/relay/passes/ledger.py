"""Which values of a job are in its run (or in the outbox, which is as good).

A value is one (step, metric). Steps of one metric are nearly always an arithmetic progression
(every step, every tenth step), so the exact set is kept as a short list of progressions: a job
with 100,000 relayed steps costs a tick the same few bytes as one with 100.
"""

from collections.abc import Iterable
from typing import Any

from finetune_wandb.relay.published.rows import Number


class Steps:
    """An exact set of whole numbers, small when they come in progressions."""

    __slots__ = ("_members", "_runs")

    def __init__(self, runs: Iterable[Iterable[int]] = ()) -> None:
        self._runs: list[list[int]] = [list(run) for run in runs]
        """[first, last, stride] each; the last one is the one that grows."""
        self._members: set[int] | None = None

    def __contains__(self, step: int) -> bool:
        if self._members is not None:
            return step in self._members
        if len(self._runs) > _SCATTERED:
            # Too irregular to search run by run; rare, so only then spelt out.
            self._members = {
                member
                for first, last, stride in self._runs
                for member in range(first, last + 1, stride)
            }
            return step in self._members
        for first, last, stride in self._runs:
            if first <= step <= last and (step - first) % stride == 0:
                return True
        return False

    def claim(self, step: int) -> bool:
        """Add a step; say whether it was new."""
        runs = self._runs
        if not runs:
            runs.append([step, step, 1])
            return True
        run = runs[-1]
        first, last, stride = run
        # Beyond the one progression that there mostly is, a step is new without a search.
        if step <= last or len(runs) > 1:
            if step in self:
                return False
            if self._members is not None:
                self._members.add(step)
        if first != last and step == last + stride:
            run[1] = step
        elif first == last and step > last:
            run[1], run[2] = step, step - first
        else:
            runs.append([step, step, 1])
        return True

    def runs(self) -> list[list[int]]:
        """Return the progressions, neighbours joined; equal sets of one history compare equal."""
        joined: list[list[int]] = []
        for run in sorted(self._runs):
            last = joined[-1] if joined else None
            if last and run[0] == last[1] + last[2] and (run[2] == last[2] or run[0] == run[1]):
                last[1] = run[1]
            elif last and last[0] == last[1] and run[0] == run[1]:
                last[1], last[2] = run[1], run[1] - last[0]
            else:
                # A copy: what was dumped must not grow with claims that come to nothing.
                joined.append(list(run))
        return joined


_SCATTERED = 48


class Ledger:
    """The relayed values of one job."""

    __slots__ = ("_twins", "count", "metrics")

    def __init__(self) -> None:
        self.metrics: dict[str, Steps] = {}
        """The steps of each metric that has values."""
        self._twins: dict[str, str] = {}
        """Names that differ from another one only in case, and the names that they have here."""
        self.count = 0
        """How many values there are."""

    def claim(self, step: int, metric: str) -> bool:
        """Add a value; say whether it was new."""
        return bool(self.claim_new(step, {metric: 0}))

    def claim_new(self, step: int, values: dict[str, Number]) -> dict[str, Number]:
        """Add the values of a step; return those that were new (`values` itself when all were)."""
        known = self.metrics
        if not values.keys() <= known.keys():
            values = self._kept_apart(values)
        old: list[str] | None = None
        for name in values:
            steps = known.get(name)
            if steps is None:
                steps = known[name] = Steps()
            if not steps.claim(step):
                old = [name] if old is None else [*old, name]
        if old:
            values = {name: value for name, value in values.items() if name not in old}
        self.count += len(values)
        return values

    def _kept_apart(self, values: dict[str, Number]) -> dict[str, Number]:
        """Return the values by names of which no two are one to W&B, which ignores case."""
        taken = {name.lower() for name in self.metrics}
        for name in values:
            if name in self.metrics or name in self._twins:
                continue
            own, place = name, 1
            while own.lower() in taken:
                place += 1
                own = f"{name}_{place}"
            taken.add(own.lower())
            if own != name:
                self._twins[name] = own
        if self._twins.keys().isdisjoint(values):
            return values
        return {self._twins.get(name, name): value for name, value in values.items()}

    def dump(self) -> dict[str, Any]:
        """Return the ledger as JSON values; metrics with the same steps share one list."""
        groups: dict[str, tuple[list[str], list[list[int]]]] = {}
        for name, steps in self.metrics.items():
            runs = steps.runs()
            groups.setdefault(str(runs), ([], runs))[0].append(name)
        shared = [[names, runs] for names, runs in groups.values()]
        return {"count": self.count, "groups": shared, "twins": dict(self._twins)}

    @classmethod
    def load(cls, dumped: dict[str, Any] | None) -> "Ledger":
        """Return the ledger that `dump` wrote; an empty one for None."""
        ledger = cls()
        if dumped:
            ledger.count = dumped["count"]
            ledger._twins = dict(dumped.get("twins", {}))
            groups = dumped["groups"]
            ledger.metrics = {name: Steps(runs) for names, runs in groups for name in names}
        return ledger
