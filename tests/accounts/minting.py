"""W&B's keys, a vault to write to and the table of rotations, in memory; each call may be the last.

`Killed` stands for the end of the process: nothing of the product catches it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import msgspec

from finetune_wandb.keys.in_use import prove_newest
from finetune_wandb.keys.new_key import RotationPorts
from finetune_wandb.keys.rotation import rotate, rotation_findings
from finetune_wandb.model.accounts.key import (
    TAG_ID,
    KeyMint,
    KeyOwner,
    KeyReport,
    ListedKey,
    MintedKey,
)
from finetune_wandb.model.errors import AppError, ConflictError, DeniedError
from finetune_wandb.model.secret import Secret, SecretRef
from finetune_wandb.model.settings import Settings
from tests.fakes import GOOD, NOW, PLACE, World, settings, version, world

FIRST = f"wandb_v1_{1:060d}"
"""The first key that W&B makes on this stage."""
OWNER = KeyOwner("team-a", ("team-a", "team-b"))


class Killed(BaseException):
    """The process ended here."""


@dataclass
class Stage:
    """One secret whose key in use nears its end, and everything a rotation of it touches."""

    azure: World
    now: datetime = NOW
    listed: dict[str, tuple[str, str]] = field(default_factory=dict)
    """W&B's keys by id: description and value."""
    mint: KeyMint | None = None
    calls: list[str] = field(default_factory=list)
    die_at: int = 0
    """The number of the call, from 1, that the process does not survive; 0: it lives."""
    after: bool = False
    """Whether that call takes effect."""
    errors: dict[str, list[AppError]] = field(default_factory=dict)
    lost: dict[str, AppError] = field(default_factory=dict)
    late: int = 0
    """How many proofs it takes until W&B knows a key that it has just made."""
    old_is_used: bool = False
    asked_until: datetime | None = None
    """Up to which moment the app asked for jobs that began."""
    made: int = 0
    while_made: Callable[[], None] = lambda: None
    """What happens elsewhere while a key is made."""
    hidden: bool = False
    """Whether W&B shows its keys to nobody."""

    def ports(self) -> RotationPorts:
        numbers = iter(range(1, 1000))
        return RotationPorts(
            look=self.azure.ports(),
            minter=Minter(self),
            writer=Writer(self),
            mints=Mints(self),
            clock=lambda: self.now,
            new_id=lambda: f"{self.now:%H%M%S}-{next(numbers)}",
            wait=self._wait,
            old_key_is_used=self._used,
        )

    async def _wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.late = max(self.late - 1, 0)
        self.let_in()

    async def _used(self, secret: SecretRef, until: datetime) -> bool:
        self.asked_until = until
        return self.old_is_used

    def let_in(self) -> None:
        for _, value in self.listed.values():
            if not self.late:
                self.azure.owners.setdefault(value, OWNER)

    def call(self, name: str) -> None:
        """Count a call; it is the process's last, or fails, when a test says so."""
        self.calls.append(name)
        if queue := self.errors.get(name):
            raise queue.pop(0)
        if len(self.calls) == self.die_at and not self.after:
            raise Killed

    def done(self, name: str) -> None:
        if error := self.lost.pop(name, None):
            raise error
        if len(self.calls) == self.die_at:
            raise Killed

    @property
    def in_use(self) -> str:
        """The value of the key in use."""
        number = self.azure.records[PLACE].version
        return next(
            one.value.reveal() for one in self.azure.secrets[PLACE] if one.version == number
        )


@dataclass
class Minter:
    stage: Stage

    def _allowed(self, key: Secret) -> None:
        if key.reveal() not in self.stage.azure.owners:
            raise DeniedError("W&B does not allow it", code="401")

    async def generate(self, key: Secret, description: str) -> MintedKey:
        self.stage.call("generate")
        self._allowed(key)
        self.stage.made += 1
        number = self.stage.made
        value = f"wandb_v1_{number:060d}"
        self.stage.listed[f"id-{number}"] = (description, value)
        self.stage.let_in()
        self.stage.while_made()
        self.stage.done("generate")
        return MintedKey(f"id-{number}", Secret(value))

    async def list_keys(self, key: Secret) -> tuple[ListedKey, ...]:
        self.stage.call("list keys")
        self._allowed(key)
        if self.stage.hidden:
            raise DeniedError("relogin required", code="401")
        return tuple(ListedKey(name, text) for name, (text, _) in self.stage.listed.items())

    async def delete(self, key: Secret, key_id: str) -> None:
        self.stage.call("delete key")
        self._allowed(key)
        if key_id in self.stage.listed:
            _, value = self.stage.listed.pop(key_id)
            self.stage.azure.owners.pop(value, None)
        self.stage.done("delete key")


@dataclass
class Writer:
    stage: Stage

    async def write_version(
        self,
        secret: SecretRef,
        value: Secret,
        *,
        expires: datetime,
        tags: Mapping[str, str],
    ) -> str:
        self.stage.call("store secret")
        stored = self.stage.azure.secrets[PLACE]
        number = f"v{len(stored) + 1}"
        stored.append(replace(version(number), value=value, expires=expires, tags=dict(tags)))
        self.stage.done("store secret")
        return number

    async def find_version(self, secret: SecretRef, tag: str, value: str) -> str | None:
        self.stage.call("find version")
        found = [
            one.version for one in self.stage.azure.secrets[PLACE] if one.tags.get(tag) == value
        ]
        return found[-1] if found else None


@dataclass
class Mints:
    stage: Stage

    async def read(self, secret: SecretRef) -> KeyMint | None:
        return self.stage.mint

    async def write(self, before: KeyMint | None, after: KeyMint) -> None:
        self.stage.call(f"write {after.state}")
        if before != self.stage.mint:
            raise ConflictError("another process has the rotation")
        # As the table keeps it.
        self.stage.mint = msgspec.convert(msgspec.to_builtins(after), KeyMint)
        self.stage.done(f"write {after.state}")


def using(**more: str) -> Settings:
    return settings(ROTATION="mint", **more)


async def look(stage: Stage) -> KeyReport:
    return await prove_newest(
        PLACE,
        ports=stage.azure.ports(),
        settings=using(),
        now=stage.now,
        trigger="a test",
    )


async def stage_with_a_key(days: float = 10, *, by_hand: bool = False, **more: object) -> Stage:
    """Return a stage whose key expires in `days` and was created by the app, or by a person."""
    azure = world()
    tags = {} if by_hand else {TAG_ID: "id-0"}
    azure.secrets[PLACE] = [version("v1", expires=NOW + timedelta(days=days), tags=tags)]
    stage = Stage(azure, listed={"id-0": ("", GOOD)}, **more)  # type: ignore[arg-type]
    await look(stage)
    return stage


async def turn(stage: Stage, **more: str) -> KeyMint | None:
    return await rotate(PLACE, ports=stage.ports(), settings=using(**more))


def causes(stage: Stage) -> list[str]:
    """Return the causes of the findings about the rotation as it stands."""
    assert stage.mint is not None
    return [item.cause for item in rotation_findings(stage.mint)]
