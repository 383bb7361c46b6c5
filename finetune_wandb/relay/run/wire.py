"""Bodies of W&B's file_stream requests.

Source: facts/wandb.md 2.1, recorded from wandb 0.31.0 and held by tests/parity.
"""

from collections.abc import Sequence
from typing import Any, Final

import orjson

from finetune_wandb.relay.published.rows import json_text

HEARTBEAT: Final = b"{}"
"""Tells W&B that the run is alive, and changes nothing."""
MAX_BODY: Final = 1_000_000
"""Bytes of lines in one request. W&B takes 10 MiB; the outbox's table row takes 1 MiB compressed."""


def exit_code(status: str) -> int:
    """Return the run's exit code for a finished job's status: 0 shows as Finished, 1 as Failed."""
    return 0 if status == "succeeded" else 1


def body(
    *,
    rows: Sequence[str],
    row_offset: int,
    lines: Sequence[str],
    line_offset: int,
    summary: dict[str, Any],
    exitcode: int | None,
) -> bytes:
    """Return one request's body. Offsets count lines already in the file; `exitcode` ends the run."""
    files: dict[str, Any] = {
        "wandb-summary.json": {"offset": 0, "content": [json_text(summary)]},
    }
    if rows:
        files["wandb-history.jsonl"] = {"offset": row_offset, "content": rows}
    if lines:
        files["output.log"] = {"offset": line_offset, "content": lines}
    request: dict[str, Any] = {"files": files}
    if exitcode is not None:
        request["complete"] = True
        request["exitcode"] = exitcode
    return orjson.dumps(request)
