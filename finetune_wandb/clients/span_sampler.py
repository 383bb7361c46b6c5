"""Keeps every failed span, and a share of the others."""

from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import StatusCode

_SPACE: Final = 2**64


class FailuresKept(SpanProcessor):
    """Passes on what ended badly, and of the rest whole traces up to `ratio` (0 to 1).

    A sampler decides before the work is done, so it cannot know what will fail; this decides
    when a span has ended.
    """

    def __init__(self, inner: SpanProcessor, ratio: float) -> None:
        self._inner = inner
        self._limit = ratio * _SPACE

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self._inner.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        context = span.get_span_context()
        is_kept = context is not None and context.trace_id % _SPACE < self._limit
        if is_kept or span.status.status_code is StatusCode.ERROR:
            self._inner.on_end(span)

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)
