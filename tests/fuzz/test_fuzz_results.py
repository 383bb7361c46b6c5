"""Result files: any bytes, in any chunks, give rows or the one documented error."""

import base64
import json
from collections.abc import AsyncIterator

from hypothesis import example, given
from hypothesis import strategies as st

from finetune_wandb.model.errors import RejectedError
from finetune_wandb.relay.published.results import ResultCount, read_rows
from finetune_wandb.relay.published.rows import Row, history_line
from tests.fuzz.inputs import fuzzed

_CELLS = st.one_of(
    st.sampled_from(
        (
            *("step", "train_loss", "valid_loss", "1", "2", "0.5", "-1", "nan", "inf", "", " "),
            *('"a,b"', '"x\ny"', '12"', '"', "1_000", "1e999", "é", "\x00", "=cmd()", "9" * 5000),
        )
    ),
    st.text(max_size=6),
)
_TABLES = st.lists(st.lists(_CELLS, max_size=6).map(",".join), max_size=8)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=300))
    lines = draw(_TABLES)
    if draw(st.integers(0, 4)):
        lines = ["step,train_loss,train_accuracy,note", *lines]
    text = draw(st.sampled_from(("\n", "\r\n", "\r"))).join(lines)
    data = draw(st.sampled_from((b"", b"\xef\xbb\xbf"))) + text.encode("utf-8", "replace")
    if draw(st.booleans()):
        data = base64.b64encode(data)
        if draw(st.integers(0, 3)) == 0:
            data = data[: draw(st.integers(0, len(data)))]
    return data


async def outcome(data: bytes, size: int) -> tuple[list[Row], str, int]:
    """Return rows, error and the count of unusable lines of a read in chunks of `size`."""

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(data), size):
            yield data[start : start + size]

    rows: list[Row] = []
    count = ResultCount()
    try:
        async for batch in read_rows(chunks(), count, {}):
            rows += batch
    except RejectedError as error:
        return [], error.code, 0
    return rows, "", count.unusable


@fuzzed
@given(files(), st.integers(1, 40))
@example(b"step,train_loss\n1,0.5\n" * 3, 1)
async def test_rows_are_the_same_when_a_file_comes_in_other_chunks(data: bytes, size: int) -> None:
    whole = await outcome(data, max(len(data), 1))
    assert repr(await outcome(data, size)) == repr(whole)
    for row in whole[0]:
        assert json.loads(history_line(row, 0, 0.0, 0.0))["step"] == row.step
