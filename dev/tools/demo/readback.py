"""Reads runs back with the official `wandb.Api`, in a process of its own.

There its import neither slows the story nor writes into it. A question is `{"base_url",
"api_key", "paths"}`, its answer `{path: {"state", "history", "summary"} | null}`. The key comes
over standard input, where no other process can read it.
"""

import json
import tempfile
from typing import Any

from dev.tools.demo.cloud import StoryError
from dev.tools.lines import Lines, answers, isolate_wandb, questions

MODULE = "dev.tools.demo.readback"


async def read(process: Lines, base_url: str, key: str, paths: list[str]) -> dict[str, Any]:
    """Return each run as the API shows it, None for one that is not there yet.

    Raises StoryError when the API cannot be used.
    """
    question = {"base_url": base_url, "api_key": key, "paths": paths}
    try:
        return await process.ask(question, seconds=120)
    except RuntimeError as error:
        raise StoryError(f"wandb.Api could not read the runs: {error}") from error


def _read(api: Any, path: str, missing: type[Exception]) -> dict[str, Any] | None:
    try:
        run = api.run(path)
    except missing:
        return None
    return {
        "state": run.state,
        "history": [dict(row) for row in run.scan_history()],
        "summary": {name: value for name, value in run.summary.items() if name != "_wandb"},
    }


def main() -> None:
    """Answer questions until there are no more."""
    with answers() as stream, tempfile.TemporaryDirectory() as folder:
        isolate_wandb(folder, {})
        import wandb
        from wandb.errors import CommError

        for question in questions():
            api = wandb.Api(
                overrides={"base_url": question["base_url"]},
                api_key=question["api_key"],
                timeout=30,
            )
            found = {path: _read(api, path, CommError) for path in question["paths"]}
            print(json.dumps(found, default=str), file=stream)


if __name__ == "__main__":
    main()
