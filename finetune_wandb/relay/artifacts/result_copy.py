"""A copy of a result file for its artifact: decoded, and only what may leave.

Result files hold numbers, and sometimes columns of text: identifiers, or whole answers of a
model about private data. Text is content, which leaves on opt-in alone.
"""

from collections.abc import AsyncIterator, Callable

from finetune_wandb.relay.published.metrics import number_in
from finetune_wandb.relay.published.results import ResultCount, read_records


async def copy_result(chunks: AsyncIterator[bytes], write: Callable[[bytes], object]) -> bool:
    """Write a result file as plain CSV; say whether it holds anything but numbers.

    Raises RejectedError where it is damaged, and what `chunks` raises.
    """
    has_text = False
    is_header = True
    async for text, records in read_records(chunks, ResultCount()):
        write(text.encode())
        for record in records:
            if is_header and record:
                is_header = False
            elif any(cell.strip() and number_in(cell) is None for cell in record):
                has_text = True
    return has_text
