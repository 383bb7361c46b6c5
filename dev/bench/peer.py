"""The peers, in a process of their own, at their best: W&B's `WandbLogger.sync`, and a live tick.

A live tick is what people write today: list a job's events with the `openai` client, resume its
run, log what is new, finish.

The SDK is told to print nothing, collect no system metrics and look for no git repository; its
artifact step is switched off by a patch where only metrics are compared.

Run: python -m dev.bench.peer CONFIG; CONFIG is JSON with `wandb_url`, `key`, `folder`, `artifacts`,
`live`. A question is `{"base_url", "jobs"}`.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from dev.tools.lines import answers, isolate_wandb, questions


def main() -> None:
    """Answer questions until there are no more."""
    config = json.loads(sys.argv[1])
    with answers() as stream:
        os.environ["HOME"] = config["folder"]
        isolate_wandb(
            config["folder"],
            {
                "WANDB_BASE_URL": config["wandb_url"],
                "WANDB_API_KEY": config["key"],
                "WANDB_CONSOLE": "off",
            },
        )
        began = time.perf_counter()
        work = _work(config)
        imported_s = time.perf_counter() - began
        for question in questions():
            began = time.perf_counter()
            work(question["base_url"], question["jobs"])
            result = {"wall_s": time.perf_counter() - began, "import_s": imported_s}
            print(json.dumps(result), file=stream)


def _work(config: dict[str, Any]) -> Callable[[str, list[str]], None]:
    import openai
    import wandb
    from wandb.integration.openai.fine_tuning import WandbLogger

    settings = wandb.Settings(
        console="off",
        silent=True,
        disable_git=True,
        disable_code=True,
        save_code=False,
        x_disable_stats=True,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
    )
    if not config["artifacts"]:
        WandbLogger._log_artifacts = classmethod(lambda cls, *args, **kwargs: None)

    def sync(base_url: str, jobs: list[str]) -> None:
        client = openai.OpenAI(base_url=base_url, api_key="bench")
        for job in jobs:
            WandbLogger.sync(
                fine_tune_job_id=job,
                openai_client=client,
                project="peer",
                entity="sandbox-team",
                log_datasets=False,
                settings=settings,
            )

    last_steps: dict[str, int] = {}

    def tick(base_url: str, jobs: list[str]) -> None:
        client = openai.OpenAI(base_url=base_url, api_key="bench")
        for job in jobs:
            page = client.fine_tuning.jobs.list_events(job, limit=20).data
            rows = sorted((event.data for event in page), key=lambda row: row["step"])
            run = wandb.init(
                project="sdk", entity="sandbox-team", id=job, resume="allow", settings=settings
            )
            for row in rows:
                if row["step"] > last_steps.get(job, 0):
                    run.log(row)
            run.finish()
            last_steps[job] = rows[-1]["step"]

    return tick if config["live"] else sync


if __name__ == "__main__":
    main()
