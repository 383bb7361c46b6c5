"""Result files as they come: encodings, line ends, quotes, gaps, and files that are none."""

import base64
from collections.abc import AsyncIterator

import pytest

from finetune_wandb.model.errors import RejectedError
from finetune_wandb.relay.published.results import ResultCount, read_rows
from finetune_wandb.relay.published.rows import Row

PLAIN = (
    "step,train_loss,train_accuracy,valid_loss,note,größe\n"
    '1,2.5,0.5,-1,"a, b\nc ""d""",1\n'
    "2,1.5,,3.0,x,\n"
    "3,nan,-1.0,,,2\n"
)
ROWS = [
    (1, {"train_loss": 2.5, "train_mean_token_accuracy": 0.5, "größe": 1.0}),
    (2, {"train_loss": 1.5, "valid_loss": 3.0}),
    (3, {"größe": 2.0}),
]

_ALL = [(1, -1.0), (2, -1.0), (3, 0.75), (4, -1.0)]


async def _chunks(content: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def rows(
    content: bytes, size: int = 65536, count: ResultCount | None = None
) -> list[tuple[int, dict[str, float]]]:
    found = []
    async for batch in read_rows(_chunks(content, size), count or ResultCount(), {}):
        found += [(row.step, dict(row.values)) for row in batch]
    return found


@pytest.mark.parametrize("encoded", [False, True], ids=["plain", "base64"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "BOM"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
async def test_rows_are_the_same_when_the_file_is_cut_at_any_byte(
    encoded: bool, mark: bytes, end: str
) -> None:
    content = mark + PLAIN.replace("\n", end).encode()
    if encoded:
        content = base64.encodebytes(content)
    for size in range(1, len(content) + 1):
        assert await rows(content, size) == ROWS, size


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("tail", ["", "\n", ",,,\n"])
async def test_last_line_counts_when_the_file_ends_without_one_more(
    tail: str, padded: bool
) -> None:
    content = f"step,train_loss,b\n1,2,3\n2,3,4{tail}".encode()
    expected = [(1, {"train_loss": 2.0, "b": 3.0}), (2, {"train_loss": 3.0, "b": 4.0})]
    assert await rows(content) == expected
    encoded = base64.b64encode(content)
    assert await rows(encoded if padded else encoded.rstrip(b"=")) == expected


async def test_columns_are_taken_as_they_come_when_some_are_odd() -> None:
    content = (
        b"Train_Text,total_steps,Step,train_loss,train_loss,step,_hidden,,valid_loss,  \n"
        b"one,100,1,2.0,9.0,77,4,5,6,7\n"
        b"two,100,2.0,,8.0\n"
        b"1_000,100,3,1_000,inf,,\n"
    )
    assert await rows(content) == [
        (1, {"train_loss": 2.0, "metric_hidden": 4.0, "valid_loss": 6.0}),
        (2, {"train_loss": 8.0}),
        (3, {"train_loss": float("inf")}),
    ]


async def test_lines_without_a_step_are_counted_when_the_rest_is_good() -> None:
    count = ResultCount()
    content = b"step,train_loss\n1,2\n\n,5\nx,5\n-3,5\n1.5,5\n4,5\n"
    assert [step for step, _ in await rows(content, count=count)] == [1, 4]
    assert count.unusable == 4


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        b"\xef\xbb\xbf",
        b"1,0.5\n2,0.4\n",
        b"PK\x03\x04" + bytes(range(256)) * 40,
        b'{"error": "not found"}',
        "step,loss\n1,2\n".encode("utf-16"),
        b"<html><body>Sign in</body></html>",
        b"step;loss\n1;2\n",
        b"QUJD" * 50 + b"=QUJD",
        b"x" * 5_000_000,
    ],
    ids=[
        "empty",
        "blank",
        "mark",
        "no header",
        "zip",
        "json",
        "utf-16",
        "html",
        "semicolons",
        "damaged",
        "no line end",
    ],
)
async def test_file_is_refused_when_it_is_no_csv_with_steps(content: bytes) -> None:
    with pytest.raises(RejectedError) as caught:
        await rows(content)
    assert caught.value.code == "NotCsv"


async def test_values_stay_their_own_when_texts_hold_stray_quotes() -> None:
    """A quote inside an unquoted text is a quote, not the start of a long field."""
    lines = [f'{step},{step}.5,a 12" disk' for step in range(1, 20_000)]
    content = ("step,train_loss,note\n" + "\n".join(lines) + "\n").encode()
    found = await rows(content, 10_000)
    assert found == [(step, {"train_loss": step + 0.5}) for step in range(1, 20_000)]


async def test_rest_is_read_when_a_quote_is_never_closed() -> None:
    lines = "".join(f"{step},plain,0.5\n" for step in range(2, 9_000))
    content = f'step,note,train_loss\n1,"open,0.25\n{lines}'.encode()
    count = ResultCount()
    found = await rows(content, 10_000, count)
    assert [step for step, _ in found] == list(range(1, 9_000))
    assert found[0] == (1, {"train_loss": 0.25})
    assert next(count.notes("f")) == "1 lines of result file f had a quote that is not closed"


async def test_differing_values_and_texts_are_noted_when_the_file_has_them() -> None:
    known = {1: Row(1, {"train_loss": 2.0}), 2: Row(2, {"train_loss": 0.333333})}
    content = b"step,id,train_loss,valid_loss,note\n1,17,9.5,7,a\n2,18,0.33333,-1,b\n3,19,1,,\n"
    count = ResultCount()
    found = [row async for batch in read_rows(_chunks(content, 99), count, known) for row in batch]
    assert [row.values for row in found] == [{"valid_loss": 7.0}, {}, {"train_loss": 1.0}]
    assert list(count.notes("f")) == [
        "1 values of result file f differ from those already published and were left out,"
        " the first at step 1: train_loss 2.0 and 9.5",
        "columns of result file f with text that is not a metric: note",
    ]


@pytest.mark.parametrize(
    ("known", "kept"),
    [
        ({2: {"train_mean_reward": 0.5}}, [(3, 0.75)]),
        ({2: {"train_mean_reward": 0.5, "full_valid_mean_reward": 0.1}}, _ALL),
        ({2: {"valid_mean_reward": -1}}, [(1, -1.0), (3, 0.75), (4, -1.0)]),
        ({}, _ALL),
    ],
    ids=["an event without validation", "one with", "one says so itself", "no event says"],
)
async def test_minus_one_of_a_reward_is_a_placeholder_when_events_show_no_validation(
    known: dict[int, dict[str, float]], kept: list[tuple[int, float]]
) -> None:
    content = b"step,valid_reward_mean\n1,-1\n2,-1\n3,0.75\n4,-1\n"
    rows_known = {step: Row(step, dict(values)) for step, values in known.items()}
    found = [
        (row.step, value)
        async for batch in read_rows(_chunks(content, 99), ResultCount(), rows_known)
        for row in batch
        for value in row.values.values()
    ]
    assert sorted(found) == kept


async def test_minus_one_of_a_score_is_a_value_when_events_never_name_it() -> None:
    content = b"step,my_score\n1,-1\n2,0.5\n"
    known = {1: Row(1, {"train_loss": 0.5})}
    found = [
        row
        async for batch in read_rows(_chunks(content, 99), ResultCount(), known)
        for row in batch
    ]
    assert [row.values for row in found] == [{"my_score": -1.0}, {"my_score": 0.5}]


async def test_reading_stays_quick_when_a_quote_is_never_closed() -> None:
    """Without its own bookkeeping of quotes the cost would grow with the square of the size."""
    lines = "\n".join(f"{step},0.5,plain" for step in range(3, 150_000))
    content = f'step,train_loss,note\n1,0.25,12" disk\n{lines}\n'.encode()
    found = await rows(content, 16_384)
    assert len(found) == 150_000 - 2


async def test_long_text_is_passed_over_when_it_is_a_models_answer() -> None:
    answer = "word " * 60_000
    content = f'step,answer,train_loss\n1,"{answer}",2\n2,x,3\n'.encode()
    assert await rows(content, 4096) == [(1, {"train_loss": 2.0}), (2, {"train_loss": 3.0})]


async def test_broken_bytes_cost_only_their_cell_when_text_is_not_utf8() -> None:
    content = b"step,note,train_loss\n1,\xff\xfe,2\n"
    assert await rows(content) == [(1, {"train_loss": 2.0})]


async def test_only_the_first_lines_are_held_when_the_file_is_large() -> None:
    """The file is a stream: what comes out first is there before the end was read."""
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b"step,train_loss\n"
        for step in range(10_000):
            sent += 1
            yield f"{step},1.5\n".encode() * 50

    async for batch in read_rows(chunks(), ResultCount(), {}):
        assert batch
        assert sent < 500
        break
