"""The seam to Microsoft's worker library: index an app, invoke one of its functions.

Everything else in this package is free of the library's types but for `Datum`, the value it
passes to and takes from a function. The library's registry is global to the process, so a
process serves one app.

Source: package azure-functions-runtime 1.3.0, `handle_event` and `native_invocation`.
"""

import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import azure_functions_runtime as runtime  # type: ignore[import-untyped]
from azure_functions_runtime.bindings.datumdef import Datum  # type: ignore[import-untyped]
from azure_functions_runtime.native_invocation import (  # type: ignore[import-untyped]
    invocation_request_native,
)

from dev.devhost import functions
from dev.devhost.config import ConfigError, IndexingError
from dev.devhost.functions import Function, Retry

__all__ = ["Datum", "Result", "index", "invoke", "stop"]

# The library logs the traceback of each failed invocation; the host's own line says it shorter.
_LIBRARY_LOG = "azure.functions"


class _Message(SimpleNamespace):
    """Stands in for the protobuf messages the library builds its answers from."""


class _Status(_Message):
    Success = "success"
    Failure = "failure"


class _Binding(_Message):
    undefined = 0
    out = 1
    inout = 2


_PROTOS = SimpleNamespace(
    WorkerInitResponse=_Message,
    WorkerMetadata=_Message,
    StatusResult=_Status,
    BindingInfo=_Binding,
    RpcFunctionMetadata=_Message,
    RpcRetryOptions=_Message,
    RpcException=_Message,
    FunctionMetadataResponse=_Message,
)


@dataclass(frozen=True, slots=True)
class Result:
    """What the library made of one invocation; `error` and `trace` are empty when ok."""

    ok: bool
    value: Datum | None
    outputs: list[tuple[str, Datum]]
    error: str
    trace: str


async def index(app: Path, environ: Mapping[str, str], *, verbose: bool) -> list[Function]:
    """Import the app and return its functions in the order they were registered.

    Raises IndexingError with the library's reason and the traceback, ConfigError for a binding
    the local host cannot serve.
    """
    script = environ.get("PYTHON_SCRIPT_FILE_NAME", "function_app.py")
    if not (app / script).is_file():
        raise IndexingError(f"{app} has no {script}")
    logging.getLogger(_LIBRARY_LOG).setLevel(logging.DEBUG if verbose else logging.CRITICAL)
    sys.path.insert(0, str(app))
    request = SimpleNamespace(
        request=SimpleNamespace(
            worker_init_request=SimpleNamespace(capabilities={}, function_app_directory=str(app))
        ),
        properties={"host": "127.0.0.1", "protos": _PROTOS},
    )
    answer = await runtime.worker_init_request(request)
    if answer.result.status != _Status.Success:
        failure = answer.result.exception
        raise IndexingError(
            f"the app in {app} cannot be indexed: {failure.message}\n{failure.stack_trace}"
        )
    if "HttpUri" in answer.capabilities:
        raise ConfigError("the local host does not serve HTTP streaming (fastapi extension)")
    metadata = (await runtime.functions_metadata_request(None)).function_metadata_results
    runtime.start_threadpool_executor()
    return [
        functions.parse(
            item.name, item.function_id, item.raw_bindings, _retry(item.retry_options), environ
        )
        for item in metadata or ()  # None: the app registers no function
    ]


async def invoke(
    invocation_id: str,
    function: Function,
    inputs: list[tuple[str, Datum]],
    metadata: dict[str, Datum],
    *,
    trace_parent: str,
    trace_state: str,
    attempt: int,
) -> Result:
    """Run the function once; `attempt` counts earlier tries under its own retry policy.

    An exception of the function comes back in the result, it is not raised.
    """
    limit = function.retry.limit if function.retry else 0
    ok, value, outputs, error, trace = await invocation_request_native(
        invocation_id, function.id, inputs, metadata, trace_parent, trace_state, attempt, limit
    )
    return Result(ok, value, outputs, error or "", trace or "")


def stop() -> None:
    """Stop the thread pool of synchronous functions, without waiting for threads at work."""
    pool = runtime.get_threadpool_executor()
    if pool is not None:
        pool.shutdown(wait=False, cancel_futures=True)


def _retry(options: Any) -> Retry | None:
    if options is None:
        return None
    if options.retry_strategy == "fixed_delay":
        delay = options.delay_interval.total_seconds()
        return Retry(options.max_retry_count, delay, delay)
    # A policy without a minimum would retry in a tight loop.
    first = max(options.minimum_interval.total_seconds(), 1.0)
    longest = max(options.maximum_interval.total_seconds(), first)
    return Retry(options.max_retry_count, first, longest)
