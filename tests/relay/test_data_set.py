"""A training file's facts, and its rows as a table, whatever is in them."""

import base64
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from finetune_wandb.relay.artifacts import measured, read_copy
from finetune_wandb.relay.data_set import COLUMNS, MOST_ROWS, table_rows


async def chunks(content: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("content", "rows"),
    [(b"", 0), (b"a", 1), (b"a\n", 1), (b"a\nb", 2), (b"a\nb\n", 2), (b"\n\n", 2)],
)
async def test_facts_are_measured_however_the_file_comes(
    content: bytes, rows: int, size: int, tmp_path: Path
) -> None:
    path = tmp_path / "kept"
    copy = await read_copy(chunks(content, size), path)
    sha256 = hashlib.sha256(content).hexdigest()
    assert measured(copy) == {"bytes": len(content), "rows": rows, "sha256": sha256}
    assert path.read_bytes() == content
    kept = copy.file("t.jsonl", path)
    assert kept.md5 == base64.b64encode(hashlib.md5(content).digest()).decode()


def shown(item: Any) -> dict[str, Any]:
    (row,) = table_rows([item if isinstance(item, str) else json.dumps(item)])
    assert len(row) == len(COLUMNS)
    return dict(zip(COLUMNS, row, strict=True))


USER = {"role": "user", "content": "Question"}
ANSWER = {"role": "assistant", "content": "Answer"}
CALL = {"role": "assistant", "tool_calls": [{"function": {"name": "price", "arguments": "{}"}}]}


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"messages": [USER, ANSWER]}, ("chat", "user: Question", "assistant: Answer")),
        (
            {"messages": [USER, {**ANSWER, "weight": 0}, USER, {**ANSWER, "weight": 1}]},
            (
                "turns",
                "user: Question\nassistant (weight 0): Answer\nuser: Question",
                "assistant (weight 1): Answer",
            ),
        ),
        ({"messages": [USER]}, ("reinforcement", "user: Question", "")),
        ({"messages": [USER], "answer": 4}, ("reinforcement", "user: Question", "")),
    ],
    ids=["chat", "turns", "prompt", "prompt-with-reference"],
)
def test_row_is_shown_by_its_format(item: dict[str, Any], expected: tuple[str, str, str]) -> None:
    row = shown(item)
    assert (row["format"], row["input"], row["output"]) == expected


def test_tools_are_shown_with_the_calls() -> None:
    row = shown({"messages": [USER, CALL], "tools": [{"function": {"name": "price"}}]})
    assert row["format"] == "tools"
    assert '"name": "price"' in row["output"]
    assert '"name": "price"' in row["tools"]


def test_preference_is_shown_with_both_answers() -> None:
    item = {
        "input": {"messages": [USER]},
        "preferred_output": [ANSWER],
        "non_preferred_output": [{**ANSWER, "content": "Worse"}],
    }
    row = shown(item)
    assert row["format"] == "preference"
    assert (row["output"], row["rejected"]) == ("assistant: Answer", "assistant: Worse")


def test_image_in_a_row_is_shown_by_its_length() -> None:
    parts = [
        {"type": "text", "text": "What?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 50_000}},
        {"type": "image_url", "image_url": {"url": "https://host/one.png"}},
    ]
    row = shown({"messages": [{"role": "user", "content": parts}, ANSWER]})
    assert row["format"] == "vision"
    assert row["input"] == "user: What? [image, 50022 characters] [image https://host/one.png]"


def test_reference_is_what_else_the_row_has() -> None:
    row = shown({"messages": [USER], "target": 24, "numbers": [1, 2], "parallel_tool_calls": True})
    assert json.loads(row["reference"]) == {"target": 24, "numbers": [1, 2]}


@pytest.mark.parametrize(
    "line",
    [
        "not JSON",
        "[1, 2]",
        "7",
        "null",
        '{"prompt": "a", "completion": "b"}',
        '{"messages": "text"}',
        '{"messages": [null, 3, "x"]}',
        '{"messages": [{"content": {"a": 1}}]}',
        '{"messages": [{"role": "user", "content": [null, {"image_url": null}]}]}',
        '{"input": "text", "preferred_output": "text"}',
        '{"preferred_output": null}',
        "[" * 100_000,
        '{"messages": []}',
    ],
)
def test_row_is_shown_as_it_is_when_it_fits_no_format(line: str) -> None:
    row = shown(line)
    assert row["format"]
    assert all(isinstance(value, str) for name, value in row.items() if name != "row")


def test_table_ends_and_texts_are_cut_when_there_is_too_much() -> None:
    line = json.dumps({"messages": [{"role": "user", "content": "x" * 20_000}, ANSWER]})
    rows = list(table_rows([line, "", "  "] * (MOST_ROWS + 5)))
    assert len(rows) == MOST_ROWS
    assert [row[0] for row in rows[:2]] == [1, 4]  # numbers are those of the file's lines
    assert len(rows[0][2]) < 8100
    assert "characters)" in rows[0][2]


def test_first_row_is_read_when_the_file_begins_with_a_byte_order_mark() -> None:
    line = json.dumps({"messages": [USER, ANSWER]})
    assert list(table_rows([f"\ufeff{line}\n", line])) == [
        [1, "chat", "user: Question", "assistant: Answer", "", "", ""],
        [2, "chat", "user: Question", "assistant: Answer", "", "", ""],
    ]


@pytest.mark.parametrize(
    "said", ["\ud800 half", ["\udfff"], {"a": "\ud800"}], ids=["text", "list", "map"]
)
def test_row_can_be_passed_on_when_it_holds_half_a_surrogate_pair(said: Any) -> None:
    rows = list(table_rows([json.dumps({"messages": [{"role": "user", "content": said}, ANSWER]})]))
    assert orjson.loads(orjson.dumps(rows)) == rows
    assert "?" in rows[0][2]
