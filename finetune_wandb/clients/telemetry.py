"""OpenTelemetry: spans, metrics and logs to OTLP, to Application Insights, or to both.

Set up here, because the host leaves it to the app in this mode (PYTHON_ENABLE_OPENTELEMETRY);
logs go the same way, since the host then takes none from the worker. Imported only when on.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry import metrics, trace
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import StatusCode

from finetune_wandb.clients.span_sampler import FailuresKept
from finetune_wandb.model.telemetry import Attribute, Span

NAME: Final = "wandb-finetune-relay"
_CONNECTION: Final = "APPLICATIONINSIGHTS_CONNECTION_STRING"
_AUTHENTICATION: Final = "APPLICATIONINSIGHTS_AUTHENTICATION_STRING"
_RATIO: Final = "OTEL_TRACES_SAMPLER_ARG"
_UNITS: Final = {"relay.lag": "s"}


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
            # An exception's text and traceback are the log's matter.
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


def start(environ: Mapping[str, str]) -> OpenTelemetry:
    """Set up what the settings name, for this process, and return it."""
    resource = Resource.create(
        {
            "service.name": environ.get("WEBSITE_SITE_NAME") or NAME,
            "service.instance.id": environ.get("WEBSITE_INSTANCE_ID", ""),
        }
    )
    exporters = list(_exporters(environ))
    tracers = TracerProvider(resource=resource)
    for spans, _, _ in exporters:
        tracers.add_span_processor(FailuresKept(BatchSpanProcessor(spans), _ratio(environ)))
    meters = MeterProvider(resource=resource, metric_readers=[reader for _, reader, _ in exporters])
    loggers = LoggerProvider(resource=resource)
    for _, _, logs in exporters:
        loggers.add_log_record_processor(BatchLogRecordProcessor(logs))
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(meters)
    if exporters:
        logging.getLogger().addHandler(LoggingHandler(logging.INFO, loggers))
    return OpenTelemetry(tracers.get_tracer(NAME), meters.get_meter(NAME))


def _ratio(environ: Mapping[str, str]) -> float:
    try:
        return min(max(float(environ.get(_RATIO, "1")), 0.0), 1.0)
    except ValueError:
        return 1.0


def _exporters(environ: Mapping[str, str]) -> Iterator[tuple[SpanExporter, MetricReader, Any]]:
    if environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        # These read address and headers from their own well-known variables.
        reader = PeriodicExportingMetricReader(OTLPMetricExporter())
        yield OTLPSpanExporter(), reader, OTLPLogExporter()
    if connection := environ.get(_CONNECTION):
        from azure.monitor.opentelemetry.exporter import (
            AzureMonitorLogExporter,
            AzureMonitorMetricExporter,
            AzureMonitorTraceExporter,
        )

        options: dict[str, Any] = {"connection_string": connection}
        if credential := _credential(environ.get(_AUTHENTICATION, "")):
            options["credential"] = credential
        metric_exporter = AzureMonitorMetricExporter(**options)
        yield (
            AzureMonitorTraceExporter(**options),
            PeriodicExportingMetricReader(metric_exporter),
            AzureMonitorLogExporter(**options),
        )


def _credential(text: str) -> Any:
    """Return the identity that `Authorization=AAD;ClientId=…` names; None for none."""
    parts = dict(part.split("=", 1) for part in text.split(";") if "=" in part)
    if parts.get("Authorization") != "AAD":
        return None
    from azure.identity import ManagedIdentityCredential

    client = parts.get("ClientId")
    return ManagedIdentityCredential(client_id=client) if client else ManagedIdentityCredential()
