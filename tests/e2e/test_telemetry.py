"""Traces, metrics and logs as a collector receives them from the running app."""

import gzip
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from dev.tools.demo.cloud import until
from tests.e2e.driver import KEY, Driver, job_object, metric_events, running

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]


class Collector:
    """Keeps what it is sent over OTLP."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.metrics: dict[str, list[dict[str, str]]] = {}
        self.lines: list[str] = []
        self.raw = b""
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        self.raw += body
        {"traces": self._traces, "metrics": self._metrics, "logs": self._logs}[
            request.path.rpartition("/")[2]
        ](body)
        return web.Response(content_type="application/x-protobuf")

    def _traces(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]

    def _metrics(self, body: bytes) -> None:
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    data = getattr(metric, metric.WhichOneof("data"))
                    self.metrics[metric.name] = [attributes(one) for one in data.data_points]

    def _logs(self, body: bytes) -> None:
        for resource in ExportLogsServiceRequest.FromString(body).resource_logs:
            for scope in resource.scope_logs:
                self.lines += [record.body.string_value for record in scope.log_records]


def attributes(holder: Any) -> dict[str, str]:
    return {
        pair.key: str(getattr(pair.value, pair.value.WhichOneof("value")))
        for pair in holder.attributes
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def collector() -> AsyncIterator[Collector]:
    kept, server = Collector(), web.Application()
    server.router.add_post("/v1/{kind}", kept.take)
    async with TestServer(server) as started:
        kept.url = str(started.make_url("")).rstrip("/")
        yield kept


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def driver(
    tmp_path_factory: pytest.TempPathFactory, collector: Collector
) -> AsyncIterator[Driver]:
    settings = {
        "PYTHON_ENABLE_OPENTELEMETRY": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "300",
        "OTEL_BLRP_SCHEDULE_DELAY": "300",
        "OTEL_METRIC_EXPORT_INTERVAL": "500",
        # Of what goes well nothing is kept but what the test waits for.
        "OTEL_TRACES_SAMPLER_ARG": "1",
    }
    async with running(tmp_path_factory.mktemp("run"), host_env=settings) as started:
        yield started


async def test_work_is_traced_measured_and_logged_when_telemetry_is_on(
    driver: Driver, collector: Collector
) -> None:
    account = await driver.onboard()
    job = job_object("ftjob-traced", "running")
    await driver.put_job(account, "ftjob-traced", job=job, events=metric_events("t", 5))
    await driver.job_with("ftjob-traced", 10)
    await driver.app("POST", "/admin/functions/drift_timer", {})

    async def told() -> bool | None:
        names = {span.name for span in collector.spans}
        wanted = {"account_event", "reconcile_account", "relay_jobs", "relay job", "drift_timer"}
        metrics = {"relay.lag", "relay.values", "jobs", "account.findings", "calls"}
        lines = any(line.startswith("job ftjob-traced: state=") for line in collector.lines)
        return (wanted <= names and metrics <= set(collector.metrics) and lines) or None

    def missing() -> str:
        names = {span.name for span in collector.spans}
        return f"{sorted(names)} {sorted(collector.metrics)} {collector.lines[-5:]}"

    await until(told, missing, seconds=30)
    span = next(one for one in collector.spans if one.name == "relay job")
    assert attributes(span)["finetune.job.id"] == "ftjob-traced"
    assert attributes(span)["azure.account.id"] == driver.account_id(account).lower()
    calls = collector.metrics["calls"]
    assert {"W&B", "management.azure.com", "the fine-tuning API"} <= {
        one["service"] for one in calls
    }
    assert {one["state"] for one in collector.metrics["jobs"]} >= {"live", "parked"}
    assert KEY.encode() not in collector.raw
