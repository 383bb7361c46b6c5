"""OpenTelemetry: spans, metrics and logs to OTLP, to Application Insights, or to both.

Set up here, because the host leaves it to the app in this mode (PYTHON_ENABLE_OPENTELEMETRY);
logs go the same way, since the host then takes none from the worker. Every failed span is kept,
and a share of the others. Imported only when on.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

from opentelemetry import metrics, trace
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import StatusCode

from finetune_wandb.model.telemetry import Attribute, Span

NAME: Final = "wandb-finetune-relay"
_UNITS: Final = {"relay.lag": "s"}
_SPACE: Final = 2**64
_EXPORTERS: Final = ("azure.core.", "azure.monitor.", "opentelemetry.", "requests.", "urllib3.")
"""Loggers that write during an export: exporting their lines would never end."""


class OpenTelemetry:
    """Telemetry over an OpenTelemetry tracer and meter."""

    def __init__(self, tracer: trace.Tracer, meter: metrics.Meter) -> None:
        self._tracer = tracer
        self._meter = meter
        self._instruments: dict[str, Any] = {}

    @contextmanager
    def span(self, name: str, **attributes: Attribute) -> Iterator[Span]:
        with self._tracer.start_as_current_span(
            name,
            attributes=dict(attributes),
            # An exception's text and traceback go to the log only.
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield _OpenSpan(span)
            except BaseException as error:
                span.set_status(StatusCode.ERROR, type(error).__name__)
                raise

    def count(self, name: str, value: int, **attributes: Attribute) -> None:
        self._instrument(name, self._meter.create_counter).add(value, attributes)

    def measure(self, name: str, value: float, **attributes: Attribute) -> None:
        self._instrument(name, self._meter.create_histogram).record(value, attributes)

    def level(self, name: str, value: int, **attributes: Attribute) -> None:
        self._instrument(name, self._meter.create_gauge).set(value, attributes)

    def _instrument(self, name: str, create: Any) -> Any:
        if name not in self._instruments:
            self._instruments[name] = create(name, unit=_UNITS.get(name, "1"))
        return self._instruments[name]


class _OpenSpan:
    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def note(self, **attributes: Attribute) -> None:
        self._span.set_attributes(attributes)

    def fail(self, reason: str) -> None:
        self._span.set_status(StatusCode.ERROR, reason)


class FailuresKept(BatchSpanProcessor):
    """Exports all failed spans, and whole traces of the others up to `ratio` (0 to 1).

    A sampler decides before the work is done, so it cannot know what will fail; this decides
    when a span has ended.
    """

    def __init__(self, exporter: SpanExporter, ratio: float) -> None:
        super().__init__(exporter)
        self._limit = ratio * _SPACE

    def on_end(self, span: ReadableSpan) -> None:
        context = span.get_span_context()
        is_kept = context is not None and context.trace_id % _SPACE < self._limit
        if is_kept or span.status.status_code is StatusCode.ERROR:
            super().on_end(span)


def start(environ: Mapping[str, str]) -> OpenTelemetry:
    """Set up the telemetry that the settings name, for this process, and return it."""
    resource = Resource.create(
        {
            "service.name": environ.get("WEBSITE_SITE_NAME") or NAME,
            "service.instance.id": environ.get("WEBSITE_INSTANCE_ID", ""),
        }
    )
    tracers, loggers = TracerProvider(resource=resource), LoggerProvider(resource=resource)
    ratio, readers = 1.0, []
    with suppress(ValueError):
        ratio = min(max(float(environ.get("OTEL_TRACES_SAMPLER_ARG", "1")), 0.0), 1.0)
    for spans, numbers, logs in _exporters(environ):
        tracers.add_span_processor(FailuresKept(spans, ratio))
        readers.append(PeriodicExportingMetricReader(numbers))
        loggers.add_log_record_processor(BatchLogRecordProcessor(logs))
    meters = MeterProvider(resource=resource, metric_readers=readers)
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(meters)
    if readers:
        logging.getLogger().addHandler(log_handler(loggers))
    return OpenTelemetry(tracers.get_tracer(NAME), meters.get_meter(NAME))


def log_handler(loggers: LoggerProvider) -> logging.Handler:
    """Return a handler that exports the app's log lines, never those of an export."""
    handler = LoggingHandler(logging.INFO, loggers)
    handler.addFilter(lambda record: not f"{record.name}.".startswith(_EXPORTERS))
    return handler


def _exporters(environ: Mapping[str, str]) -> Iterator[tuple[SpanExporter, MetricExporter, Any]]:
    """Yield where spans, metrics and logs go, for each service that the settings name."""
    if environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        # These read address and headers from their own well-known variables.
        yield OTLPSpanExporter(), OTLPMetricExporter(), OTLPLogExporter()
    if connection := environ.get("APPLICATIONINSIGHTS_CONNECTION_STRING"):
        from azure.monitor.opentelemetry import exporter

        identity = _identity(environ.get("APPLICATIONINSIGHTS_AUTHENTICATION_STRING", ""))
        options = {"connection_string": connection, **identity}
        yield (
            exporter.AzureMonitorTraceExporter(**options),
            exporter.AzureMonitorMetricExporter(**options),
            exporter.AzureMonitorLogExporter(**options),
        )


def _identity(text: str) -> dict[str, Any]:
    """Return the credential that `Authorization=AAD;ClientId=…` asks for; empty without one."""
    parts = dict(part.split("=", 1) for part in text.split(";") if "=" in part)
    if parts.get("Authorization") != "AAD":
        return {}
    from azure.identity import ManagedIdentityCredential

    return {"credential": ManagedIdentityCredential(client_id=parts.get("ClientId") or None)}
