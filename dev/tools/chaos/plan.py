"""What happens in one run, worked out from its seed alone: an account, its jobs, keys and faults,
and what people do to them meanwhile.

Nothing here talks to anybody. The moments are seconds from the start of the batch that the run
is played in; names carry the seed, so that runs played side by side do not meet.
"""

import random
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from dev.tools.chaos import faults, jobs
from dev.tools.demo.values import Published

Json = dict[str, Any]
SPAN_S: Final = 10.0
"""How long there are faults and weather."""
CALM_S: Final = 20.0
"""How much longer the jobs go on: what failed has to come right while they run."""
MOVED_TO: Final = "rg-chaos-moved"
_KEY_LETTERS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happens `at` seconds into the run."""

    at: float
    kind: str
    """What `play` does then."""
    body: Json


class Fate(StrEnum):
    """What people do to the account of a run, or to one of its jobs, while the jobs run."""

    NONE = "left alone"
    MOVED = "moved to another resource group"
    RECOVERED = "deleted and recovered"
    DELETED = "deleted"
    BACK = "opted out and in"
    OUT = "opted out"
    JOB_DELETED = "job deleted"
    RUN_DELETED = "run deleted in W&B"

    @property
    def is_final(self) -> bool:
        """Whether the jobs are not followed to their end."""
        return self in (Fate.DELETED, Fate.OUT)

    @property
    def is_live(self) -> bool:
        """Whether the jobs go on in the same runs, so that values have no reason to be late."""
        return self in (Fate.NONE, Fate.BACK, Fate.RECOVERED, Fate.JOB_DELETED)


@dataclass(frozen=True, slots=True)
class JobPlan:
    """How one job ends, and every value that it publishes."""

    id: str
    status: str
    published: Published
    ends: bool = True
    """Whether the app sees it end; otherwise its run ends early, with the cause."""
    foreign: bool = False
    """W&B has a run of its id before, with rows of another tool."""
    disputed: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. `secret` is the vault's secret that holds its W&B key."""

    seed: int
    account: str
    secret: str
    jobs: tuple[JobPlan, ...]
    moments: tuple[Moment, ...]
    fate: Fate
    bad_keys: tuple[str, ...] = ()
    """Keys that W&B refuses from the first moment on."""
    boundaries: tuple[str, ...] = field(default=())
    """The boundaries that its faults are at, for the summary."""


def make_plan(seed: int, slot: int, now: float) -> Plan:
    """Return the run of a seed; `now` is unix seconds, by which Azure dates its objects.

    `slot` numbers the secrets of the runs that are played at the same time.
    """
    rng = random.Random(seed)
    account, secret = f"aoai-{seed}", f"wandb-key-{slot:02d}"
    moments = [Moment(rng.uniform(0, 1.5), "account", {})]
    bad = _keys(rng, moments)
    fate = rng.choices(list(Fate), (10, 2, 2, 1, 2, 1, 2, 1))[0]
    fate_at = rng.uniform(5, SPAN_S - 1)
    planned = []
    for number in range(rng.randint(1, 2)):
        job = f"ftjob-{seed}-{number}"
        story = jobs.story(rng, job, now, SPAN_S + CALM_S)
        is_deleted = fate == Fate.JOB_DELETED and number == 0
        puts = [put for put in story.puts if put[0] < fate_at or not is_deleted]
        moments += [Moment(at, "job", {"id": job, **body}) for at, body in puts]
        foreign = rng.random() < 0.15
        if foreign:
            moments.append(Moment(0.0, "foreign", {"id": job}))
        shown = jobs.shown_by(puts[-1][1]) if is_deleted else story.published
        ends = not (is_deleted or fate.is_final)
        planned.append(JobPlan(job, story.status, shown, ends, foreign, story.disputed))
    moments += _doings(rng, fate, fate_at, planned)
    wanted = faults.draw(rng, account, secret, [job.id for job in planned], SPAN_S)
    for number, fault in enumerate(wanted):
        name = f"{seed}-{number}"
        moments.append(Moment(fault.at, "fault", {**fault.rule, "name": name}))
        moments.append(Moment(fault.until, "calm", {"name": name}))
    for _ in range(rng.randint(0, 4)):
        moments.append(Moment(rng.uniform(1, SPAN_S), "notice", {"times": rng.randint(1, 3)}))
    for _ in range(rng.randint(0, 4)):
        delay = rng.choice((0, 0, 1, 3))
        moments.append(Moment(rng.uniform(1, SPAN_S), "again", {"delay_s": delay}))
    moments.sort(key=lambda moment: moment.at)
    return Plan(
        seed,
        account,
        secret,
        tuple(planned),
        tuple(moments),
        fate,
        bad,
        tuple(sorted({fault.boundary for fault in wanted})),
    )


def _doings(rng: random.Random, fate: Fate, at: float, planned: list[JobPlan]) -> list[Moment]:
    back = at + rng.uniform(1, 4)
    match fate:
        case Fate.MOVED:
            return [Moment(at, "delete", {}), Moment(at + 0.1, "account", {"group": MOVED_TO})]
        case Fate.RECOVERED:
            return [Moment(at, "delete", {}), Moment(back, "account", {})]
        case Fate.DELETED:
            return [Moment(at, "delete", {})]
        case Fate.BACK:
            return [Moment(at, "opt", {"mode": "off"}), Moment(back, "opt", {"mode": "on"})]
        case Fate.OUT:
            return [Moment(at, "opt", {"mode": "off"})]
        case Fate.JOB_DELETED:
            return [Moment(at, "delete job", {"id": planned[0].id})]
        case Fate.RUN_DELETED:
            return [Moment(at, "delete run", {"id": planned[0].id})]
    return []


def _keys(rng: random.Random, moments: list[Moment]) -> tuple[str, ...]:
    """Add the secret's versions: a good one before anything else, then good and bad ones.

    The last but one of two good versions may be revoked after a while, as people do; a revoked
    key with nothing good behind it would rightly stop the run.
    """
    bad: list[str] = []
    good = _key(rng)
    moments.append(Moment(0.0, "key", {"value": good, "state": "active"}))
    for at in sorted(rng.uniform(2, SPAN_S - 2) for _ in range(rng.choice((0, 1, 1, 2)))):
        value = _key(rng)
        if rng.random() < 0.4:
            bad.append(value)
            moments.append(Moment(at, "key", {"value": value, "state": "revoked"}))
            continue
        moments.append(Moment(at, "key", {"value": value, "state": "active"}))
        if rng.random() < 0.5:
            moments.append(Moment(at + rng.uniform(0, 2), "revoke", {"value": good}))
        good = value
    return tuple(bad)


def _key(rng: random.Random) -> str:
    return "wandb_v1_" + "".join(rng.choices(_KEY_LETTERS, k=77))
