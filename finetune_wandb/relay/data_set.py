"""A training file's rows as a table.

They come in six formats: chat, tool calls, vision, several turns with weights, preference pairs
and reinforcement. A row that fits none is shown as it is.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from finetune_wandb.relay.published.rows import shortened

COLUMNS: Final = ("row", "format", "input", "output", "rejected", "reference", "tools")
MOST_ROWS: Final = 1000
_NOT_REFERENCE: Final = ("messages", "tools", "functions", "parallel_tool_calls")


def table_rows(lines: Iterable[str]) -> Iterator[list[Any]]:
    """Yield the first rows of a JSON Lines data set, one list of COLUMNS each."""
    # Azure asks for a byte-order mark.
    texts = enumerate((line.removeprefix("\ufeff") for line in lines), start=1)
    for number, text in islice((one for one in texts if one[1].strip()), MOST_ROWS):
        try:
            item = json.loads(text)
        except (ValueError, RecursionError):
            item = text
        shown = _show(item) if isinstance(item, dict) else {"format": "other", "input": item}
        yield [number, *(_text(shown.get(name)) for name in COLUMNS[1:])]


def _show(item: dict[str, Any]) -> dict[str, Any]:
    if "preferred_output" in item or "non_preferred_output" in item:
        given = item.get("input")
        asked = given if isinstance(given, dict) else {"messages": given}
        return {
            "format": "preference",
            "input": _talk(asked.get("messages")),
            "output": _talk(item.get("preferred_output")),
            "rejected": _talk(item.get("non_preferred_output")),
            "tools": asked.get("tools"),
        }
    messages = item.get("messages")
    if not isinstance(messages, list):
        return {"format": "other", "input": item}
    tools = item.get("tools") or item.get("functions")
    roles = [one.get("role") if isinstance(one, dict) else None for one in messages]
    has_answer = roles[-1:] == ["assistant"]
    reference = {name: value for name, value in item.items() if name not in _NOT_REFERENCE}
    return {
        "format": _format(messages, tools, roles.count("assistant") if has_answer else 0),
        "input": _talk(messages[:-1] if has_answer else messages),
        "output": _talk(messages[-1:]) if has_answer else "",
        "reference": reference or None,
        "tools": tools,
    }


def _format(messages: list[Any], tools: object, answers: int) -> str:
    known = [message for message in messages if isinstance(message, dict)]
    if any(isinstance(message.get("content"), list) for message in known):
        return "vision"
    if tools or any(message.get("tool_calls") or message.get("function_call") for message in known):
        return "tools"
    if not answers:
        return "reinforcement"  # the answer is the model's, and is graded
    return "turns" if answers > 1 else "chat"


def _talk(messages: object) -> str:
    """Return messages as text, a line each: the role, then what was said."""
    if not isinstance(messages, list):
        return _text(messages)
    return "\n".join(_message(message) for message in messages)


def _message(message: object) -> str:
    if not isinstance(message, dict):
        return _text(message)
    said = message.get("content")
    if isinstance(said, list):
        said = " ".join(_part(part) for part in said)
    calls = message.get("tool_calls") or message.get("function_call")
    weight = f" (weight {message['weight']})" if "weight" in message else ""
    return (
        f"{message.get('role', '?')}{weight}: {' '.join(filter(None, map(_text, (said, calls))))}"
    )


def _part(part: object) -> str:
    if not isinstance(part, dict):
        return _text(part)
    image = part.get("image_url")
    if image is None:
        return _text(part.get("text", part))
    url = str((image.get("url") if isinstance(image, dict) else image) or "")
    # An image in the row itself is long and unreadable; its size says enough.
    return f"[image, {len(url)} characters]" if url.startswith("data:") else f"[image {url}]"


def _text(value: object) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    # Half a surrogate pair can be written as JSON.
    return shortened(text.encode("utf-8", "replace").decode())
