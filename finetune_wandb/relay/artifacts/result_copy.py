"""A copy of a result file for its artifact: decoded, and only what may leave.

Result files hold numbers, and sometimes columns of text: identifiers, or whole answers of a
model about private data. Text is content, which leaves on opt-in alone.
"""

import csv
import io
from collections.abc import AsyncIterator, Callable

from finetune_wandb.model.errors import RejectedError
from finetune_wandb.relay.published.metrics import number_in
from finetune_wandb.relay.published.results import decoded, lines_of


async def copy_result(chunks: AsyncIterator[bytes], write: Callable[[bytes], object]) -> bool:
    """Write a result file as plain CSV; say whether it holds anything but numbers.

    Raises RejectedError where it is damaged, and what `chunks` raises.
    """
    has_text = False
    is_header = True
    async for text in lines_of(decoded(chunks)):
        write(text.encode())
        if has_text:
            continue
        try:
            for record in csv.reader(io.StringIO(text, newline="")):
                if is_header and record:
                    is_header = False
                elif any(cell.strip() and number_in(cell) is None for cell in record):
                    has_text = True
                    break
        except csv.Error as error:
            raise RejectedError(f"the result file is not CSV ({error})", code="NotCsv") from None
    return has_text
