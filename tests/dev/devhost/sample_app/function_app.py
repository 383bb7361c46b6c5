"""An app that shows what it was given: each function writes a line to the file SAMPLE_TRACE."""

import asyncio
import json
import logging
import os
import time
from pathlib import Path
from typing import List  # noqa: UP035

import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)


def record(**fact: object) -> None:
    with Path(os.environ["SAMPLE_TRACE"]).open("a", encoding="utf-8") as trace:
        trace.write(json.dumps(fact) + "\n")


@app.route("echo/{kind}/{number:int?}", methods=["GET", "POST"])
async def echo(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    seen = {
        "method": req.method,
        "url": req.url,
        "params": dict(req.params),
        "route": dict(req.route_params),
        "headers": dict(req.headers),
        "body_bytes": len(req.get_body()),
        "body": req.get_body()[:100].decode("latin-1"),
        "invocation": context.invocation_id,
        "trace_parent": context.trace_context.trace_parent,
        "folder": str(Path.cwd()),
    }
    response = func.HttpResponse(
        json.dumps(seen), status_code=201, mimetype="application/json", headers={"X-Sample": "yes"}
    )
    response.headers.add("Set-Cookie", "a=1; Path=/")
    response.headers.add("Set-Cookie", "b=2; HttpOnly")
    return response


@app.route("echo/fixed")
def fixed(req: func.HttpRequest) -> str:
    return "fixed"


@app.route("open", auth_level=func.AuthLevel.ANONYMOUS)
def open_(req: func.HttpRequest) -> str:
    return "open"


@app.route("closed", auth_level=func.AuthLevel.ADMIN)
def closed(req: func.HttpRequest) -> str:
    return "closed"


@app.route("files/{*path}")
def files(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(req.route_params.get("path", "nothing"))


@app.route("broken")
async def broken(req: func.HttpRequest) -> func.HttpResponse:
    raise ValueError("the sample breaks on purpose")


@app.route("setting/{name}")
def setting(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(os.environ.get(req.route_params["name"], ""))


@app.route("nap/{ms:int}")
async def nap(req: func.HttpRequest) -> func.HttpResponse:
    await asyncio.sleep(int(req.route_params["ms"]) / 1000)
    record(function="nap")
    return func.HttpResponse("rested")


@app.event_grid_trigger("event")
async def on_event(event: func.EventGridEvent) -> None:
    if isinstance(event, func.CloudEvent):
        record(function="on_event", id=event.id, type=event.type, kind="cloud")
        return
    record(function="on_event", id=event.id, type=event.event_type, kind="grid")
    if event.get_json().get("fail"):
        raise RuntimeError("told to fail")


@app.timer_trigger("timer", "%SAMPLE_SCHEDULE%")
async def on_timer(timer: func.TimerRequest) -> None:
    record(function="on_timer", past_due=timer.past_due, at=time.time())
    await asyncio.sleep(float(os.environ.get("SAMPLE_TIMER_TAKES", "0")))
    record(function="on_timer_end", at=time.time())


@app.timer_trigger("timer", "0 0 0 1 1 *")
@app.retry(strategy="fixed_delay", max_retry_count="2", delay_interval="00:00:00")
def on_retried_timer(timer: func.TimerRequest, context: func.Context) -> None:
    record(function="on_retried_timer", attempt=context.retry_context.retry_count)
    raise RuntimeError("never works")


@app.queue_trigger("message", "%SAMPLE_QUEUE%", "AzureWebJobsStorage")
def on_message(message: func.QueueMessage) -> None:
    order = json.loads(message.get_body())
    logging.info("working on %s", order["name"])
    record(
        function="on_message",
        name=order["name"],
        dequeue_count=message.dequeue_count,
        inserted=message.insertion_time is not None,
        at=time.time(),
    )
    time.sleep(order.get("takes", 0))
    record(function="on_message_end", name=order["name"], at=time.time())
    if order.get("fail"):
        raise RuntimeError("told to fail")


@app.route("enqueue", methods=["POST"])
@app.queue_output("out", "%SAMPLE_QUEUE%", "AzureWebJobsStorage")
# The worker library refuses the builtin `list` here.
async def enqueue(req: func.HttpRequest, out: func.Out[List[str]]) -> func.HttpResponse:  # noqa: UP006
    out.set([json.dumps(order) for order in req.get_json()])
    return func.HttpResponse(status_code=202)
