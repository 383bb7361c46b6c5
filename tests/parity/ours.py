"""Our way: the relay over fakes of Azure and storage, and the real sink over HTTP."""

from typing import Any

from finetune_wandb.clients.transport import Transport
from finetune_wandb.clients.wandb.sink import Pacing, WandbSink
from finetune_wandb.model.relay.ports import RunKey
from finetune_wandb.model.secret import Secret
from tests.dev.sandbox.wandb.wandb_fixture import ENTITY, KEY, WandbServer
from tests.fakes import FakeKeys, relay_account
from tests.relay.stage import JOB, T0, Stage, body, event

STEPS = range(1, 31)


def metrics(step: int) -> dict[str, float]:
    """Return the values that both ways write at a step."""
    values = {"train_loss": 2.0 / step, "train_mean_token_accuracy": 1 - 1 / step}
    return values | ({"valid_loss": 2.5 / step} if step % 10 == 0 else {})


class Ours:
    """A relay that writes to the stand-in."""

    def __init__(self, server: WandbServer) -> None:
        self._transport = Transport()
        self._sink = WandbSink(self._transport, server.url, pacing=Pacing(1000))
        self.stage = Stage(
            account=relay_account(entity=ENTITY),
            keys=FakeKeys(RunKey(ENTITY, Secret(KEY))),
        )

    async def tick(self) -> None:
        outcomes = await self.stage.tick(sink=self._sink)
        assert [one.error for one in outcomes] == [""]

    async def write(self, status: str = "succeeded", **more: Any) -> None:
        """Relay a whole job in a few ticks: first its beginning, then the rest and the end."""
        settings = {
            "hyperparameters": {"n_epochs": 2, "learning_rate_multiplier": 0.1},
            "suffix": "nice",
            "metadata": {"wandb_tags": "a,b"},
            **more,
        }
        job = self.stage.api.put(body("running", **settings))
        began = {"id": "ev-0", "created_at": T0, "message": "Training started."}
        done = {"id": "ev-end", "created_at": T0 + 99, "message": "Completed results file."}
        job.events = [*(event(step, **metrics(step)) for step in STEPS[:7][::-1]), began]
        await self.tick()
        job.events = [*(event(step, **metrics(step)) for step in STEPS[:20][::-1]), began]
        await self.tick()
        job.body = body(status, **settings)
        job.events = [done, *(event(step, **metrics(step)) for step in STEPS[::-1]), began]
        await self.tick()

    async def close(self) -> None:
        await self._transport.close()


__all__ = ["JOB", "STEPS", "T0", "Ours", "metrics"]
