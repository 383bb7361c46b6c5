"""What of a job's files becomes content: facts, decoded result files, and rows as a table.

Training files come in six row formats: chat, tool calls, vision, several turns with weights,
preference pairs and reinforcement. A row that fits none is shown as it is. Result files hold
numbers, and sometimes text: identifiers, or whole answers of a model about private data.
"""

import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from finetune_wandb.model.relay.artifact import Copy
from finetune_wandb.relay.published.metrics import number_in
from finetune_wandb.relay.published.results import ResultCount, read_records

COLUMNS: Final = ("row", "format", "input", "output", "rejected", "reference", "tools")
MOST_ROWS: Final = 1000
_LONGEST: Final = 8000


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file's facts; None for what could not be read."""

    id: str
    name: str = ""
    size: int | None = None
    rows: int | None = None
    sha256: str | None = None

    def measured(self, copy: Copy) -> "FileFacts":
        return FileFacts(self.id, self.name, copy.size, copy.lines, copy.sha256)

    def to_json(self) -> dict[str, Any]:
        values = {
            "id": self.id,
            "name": self.name or None,
            "bytes": self.size,
            "rows": self.rows,
            "sha256": self.sha256,
        }
        return {name: value for name, value in values.items() if value is not None}


async def read_copy(chunks: AsyncIterator[bytes], path: Path | None) -> Copy:
    """Read a file to its end, into `path` where one is given. Raises what `chunks` raises."""
    with path.open("wb") if path else nullcontext() as target:
        copy = Copy(target)
        async for chunk in chunks:
            copy.take(chunk)
    return copy


async def read_result(chunks: AsyncIterator[bytes], path: Path) -> tuple[Copy, bool]:
    """Write a result file to `path` as plain CSV; say whether it holds anything but numbers.

    Raises RejectedError where it is damaged, and what `chunks` raises.
    """
    has_text, is_header = False, True
    with path.open("wb") as target:
        copy = Copy(target)
        async for text, records in read_records(chunks, ResultCount()):
            copy.take(text.encode())
            for record in records:
                if is_header and record:
                    is_header = False
                elif any(cell.strip() and number_in(cell) is None for cell in record):
                    has_text = True
    return copy, has_text


def table_rows(lines: Iterable[str]) -> Iterator[list[Any]]:
    """Yield the first rows of a JSON Lines data set, one list of COLUMNS each."""
    left = MOST_ROWS
    for number, line in enumerate(lines, start=1):
        line = line.removeprefix("\ufeff")  # Azure asks for a byte-order mark
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except (ValueError, RecursionError):
            item = line
        shown = _show(item) if isinstance(item, dict) else {"format": "other", "input": item}
        yield [number, *(_text(shown.get(name)) for name in COLUMNS[1:])]
        left -= 1
        if not left:
            return


def _show(item: Mapping[str, Any]) -> dict[str, Any]:
    if "preferred_output" in item or "non_preferred_output" in item:
        given = item.get("input")
        messages = given.get("messages") if isinstance(given, Mapping) else given
        return {
            "format": "preference",
            "input": _talk(messages),
            "output": _talk(item.get("preferred_output")),
            "rejected": _talk(item.get("non_preferred_output")),
            "tools": given.get("tools") if isinstance(given, Mapping) else None,
        }
    messages = item.get("messages")
    if not isinstance(messages, list):
        return {"format": "other", "input": dict(item)}
    tools = item.get("tools") or item.get("functions")
    reference = {
        name: value
        for name, value in item.items()
        if name not in ("messages", "tools", "functions", "parallel_tool_calls")
    }
    ends_with_answer = (
        bool(messages)
        and isinstance(messages[-1], Mapping)
        and messages[-1].get("role") == "assistant"
    )
    return {
        "format": _format(messages, tools, ends_with_answer),
        "input": _talk(messages[:-1] if ends_with_answer else messages),
        "output": _talk(messages[-1:]) if ends_with_answer else "",
        "reference": reference or None,
        "tools": tools,
    }


def _format(messages: list[Any], tools: object, has_answer: bool) -> str:
    known = [message for message in messages if isinstance(message, Mapping)]
    if any(isinstance(message.get("content"), list) for message in known):
        return "vision"
    if tools or any(message.get("tool_calls") or message.get("function_call") for message in known):
        return "tools"
    if not has_answer:
        return "reinforcement"  # the answer is the model's, and is graded
    answers = [message for message in known if message.get("role") == "assistant"]
    return "turns" if len(answers) > 1 else "chat"


def _talk(messages: object) -> str:
    """Return messages as text, a line each: the role, then what was said."""
    if not isinstance(messages, list):
        return _text(messages)
    return "\n".join(_message(message) for message in messages)


def _message(message: object) -> str:
    if not isinstance(message, Mapping):
        return _text(message)
    said = message.get("content")
    if isinstance(said, list):
        said = " ".join(_part(part) for part in said)
    calls = message.get("tool_calls") or message.get("function_call")
    weight = f" (weight {message['weight']})" if "weight" in message else ""
    parts = [_text(said), _text(calls)]
    return f"{message.get('role', '?')}{weight}: {' '.join(part for part in parts if part)}"


def _part(part: object) -> str:
    if not isinstance(part, Mapping):
        return _text(part)
    image = part.get("image_url")
    if image is not None:
        url = image.get("url") if isinstance(image, Mapping) else image
        text = str(url or "")
        # An image in the row itself is long and unreadable; its size says enough.
        return f"[image, {len(text)} characters]" if text.startswith("data:") else f"[image {text}]"
    return _text(part.get("text") if "text" in part else part)


def _text(value: object) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if not text.isascii():
        text = text.encode(
            "utf-8", "replace"
        ).decode()  # half a surrogate pair can be written as JSON
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text)} characters)"
