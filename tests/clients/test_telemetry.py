"""Failures are kept when spans are sampled, an export brings no next one, and off costs nothing."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from finetune_wandb.clients.telemetry import FailuresKept, OpenTelemetry, log_handler

ROOT = Path(__file__).resolve().parents[2]
OFF = """
import asyncio, sys
from pathlib import Path
from function_app import Composition
from dev.devhost.config import read_settings_file
values = dict(read_settings_file(Path("local.settings.sample.json")).values)
asyncio.run(Composition(values).app())
print(sorted(name for name in sys.modules if name.startswith("opentelemetry.sdk")))
"""


MUTED = """
import asyncio, logging
from pathlib import Path
from function_app import Composition
from dev.devhost.config import read_settings_file
logging.getLogger().setLevel(logging.INFO)  # as the Functions worker does
requests = logging.getLogger("azure.core.pipeline.policies.http_logging_policy")
print(requests.isEnabledFor(logging.INFO))
values = dict(read_settings_file(Path("local.settings.sample.json")).values)
asyncio.run(Composition(values).app())
print(requests.isEnabledFor(logging.INFO), requests.isEnabledFor(logging.WARNING))
"""


def traced(ratio: float) -> tuple[OpenTelemetry, TracerProvider, InMemorySpanExporter]:
    exporter, tracers = InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(FailuresKept(exporter, ratio))
    telemetry = OpenTelemetry(tracers.get_tracer("t"), MeterProvider().get_meter("t"))
    return telemetry, tracers, exporter


@pytest.mark.parametrize(("ratio", "kept"), [(0.0, ["bad", "worse"]), (1.0, None)])
def test_failures_are_kept_when_sampled(ratio: float, kept: list[str] | None) -> None:
    telemetry, tracers, exporter = traced(ratio)
    with telemetry.span("good"):
        pass
    with telemetry.span("bad") as span:
        span.fail("refused")
    with pytest.raises(OSError, match="secret text"), telemetry.span("worse"):
        raise OSError("secret text")
    tracers.shutdown()
    spans = exporter.get_finished_spans()
    assert [span.name for span in spans] == (kept or ["good", "bad", "worse"])
    # Whose text an exception carries is not known here.
    assert spans[-1].status.description == "OSError"
    assert spans[-1].events == ()


def test_half_is_kept_when_ratio_is_a_half() -> None:
    telemetry, tracers, exporter = traced(0.5)
    for _ in range(400):
        with telemetry.span("good"):
            pass
    tracers.shutdown()
    assert 120 < len(exporter.get_finished_spans()) < 280


@pytest.mark.filterwarnings("ignore:`LoggingHandler`:DeprecationWarning")
def test_lines_of_an_export_are_not_exported() -> None:
    exporter, loggers = InMemoryLogRecordExporter(), LoggerProvider()
    loggers.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    handler = log_handler(loggers)
    for name in (
        "azure.core.pipeline.policies.http_logging_policy",
        "azure.monitor.opentelemetry.exporter.export._base",
        "opentelemetry.sdk._logs",
        "urllib3.connectionpool",
        "finetune_wandb.flows.account_work",
        "azure.identity",
    ):
        record = logging.LogRecord(name, logging.INFO, "", 0, name, (), None)
        handler.handle(record)
    sent = [item.log_record.body for item in exporter.get_finished_logs()]
    assert sent == ["finetune_wandb.flows.account_work", "azure.identity"]


def test_request_logs_of_the_sdks_are_muted_once_the_app_is_connected() -> None:
    out = subprocess.run(
        [sys.executable, "-c", MUTED], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert out.split() == ["True", "False", "True"]


def test_nothing_is_imported_when_off() -> None:
    out = subprocess.run(
        [sys.executable, "-c", OFF], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert out.strip() == "[]"
