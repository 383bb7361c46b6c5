"""Azure's fine-tuning API through the official `openai` SDK: what a customer's own code does.

Reads back, independently of the product, everything the API publishes of a job.
"""

import io
import json
import random
from typing import Any, Final

from openai import AsyncOpenAI, AuthenticationError

from dev.tools.demo.values import Published, published

MODEL: Final = "gpt-4.1-mini-2025-04-14"
_ROWS: Final = 60
_BATCH: Final = 2
_EPOCHS: Final = 2
STEPS: Final = _ROWS // _BATCH * _EPOCHS
_CITIES: Final = ("Oslo", "Porto", "Riga", "Lyon", "Graz", "Cork", "Bari", "Turku", "Gdansk")
_DRINKS: Final = ("coffee", "tea", "cocoa", "lemonade", "soup")


class FineTuning:
    """One account's API. `endpoint` is where the account answers."""

    def __init__(self, endpoint: str) -> None:
        # The sandbox takes any key; the v1 API sends it as a bearer token.
        self._client = AsyncOpenAI(base_url=f"{endpoint}/openai/v1", api_key="sandbox")

    async def close(self) -> None:
        await self._client.close()

    async def may_call(self) -> bool | None:
        """Whether the caller's role has spread; until then each call answers 401."""
        try:
            await self._client.files.list()
        except AuthenticationError:
            return None
        return True

    async def start_job(self, epochs: int = _EPOCHS) -> str:
        """Upload a training and a validation file, create a supervised job, return its id.

        Each epoch has 30 steps.
        """
        training = await self._upload("training.jsonl", rows=_ROWS, seed=1)
        validation = await self._upload("validation.jsonl", rows=12, seed=2)
        job = await self._client.fine_tuning.jobs.create(
            model=MODEL,
            training_file=training,
            validation_file=validation,
            suffix="order-taker",
            seed=7,
            method={
                "type": "supervised",
                "supervised": {"hyperparameters": {"n_epochs": epochs, "batch_size": _BATCH}},
            },
        )
        return job.id

    async def _upload(self, name: str, *, rows: int, seed: int) -> str:
        content = io.BytesIO(training_rows(rows, seed))
        file = await self._client.files.create(file=(name, content), purpose="fine-tune")
        return file.id

    async def read_status(self, job_id: str) -> str:
        return (await self._client.fine_tuning.jobs.retrieve(job_id)).status

    async def read_published(self, job_id: str) -> Published:
        """Return every value published so far: events, checkpoints and result file."""
        jobs = self._client.fine_tuning.jobs
        # Plain objects: the SDK's types do not have all that Azure sends.
        events = [
            event.to_dict(warnings=False) async for event in jobs.list_events(job_id, limit=100)
        ]
        marks = [
            mark.to_dict(warnings=False) async for mark in jobs.checkpoints.list(job_id, limit=100)
        ]
        content = b""
        for file_id in (await jobs.retrieve(job_id)).result_files or ():
            content = (await self._client.files.content(file_id)).content
        return published(events, marks, content)


def training_rows(rows: int, seed: int) -> bytes:
    """Return a JSONL file of made-up chats: orders taken down as JSON."""
    rng = random.Random(seed)
    lines: list[dict[str, Any]] = []
    for number in range(rows):
        city, drink, cups = rng.choice(_CITIES), rng.choice(_DRINKS), rng.randint(1, 9)
        order = json.dumps({"order": number, "drink": drink, "cups": cups, "city": city})
        lines.append(
            {
                "messages": [
                    {"role": "system", "content": "Take down the order as JSON."},
                    {"role": "user", "content": f"Order {number}: {cups} {drink} to {city}."},
                    {"role": "assistant", "content": order},
                ]
            }
        )
    return "\n".join(json.dumps(line) for line in lines).encode()
