"""Serves HTTP functions: path to route, request to `Datum`, outcome to response.

Route templates are those of ASP.NET: `jobs/{id}`, `{id:int}`, `{id?}`, `{*rest}`. As in the
cloud, paths match without regard to case, literal text beats a parameter, and a known path
asked with the wrong method is not found (404, not 405). A function that raises answers 500 with
an empty body. Limits on concurrent and outstanding requests are those of host.json.
"""

import asyncio
import contextlib
import re
from dataclasses import dataclass
from urllib.parse import unquote

from aiohttp import web
from multidict import CIMultiDict

from dev.devhost.config import ConfigError, HttpOptions
from dev.devhost.functions import Function
from dev.devhost.invoker import Invoker, Outcome
from dev.devhost.keys import Keys
from dev.devhost.worker import Datum

_PARAMETER = re.compile(r"\{(\*{0,2})(\w+)((?::[^{}?]+)*)(\??)\}")
_SLASH = re.compile("(%2f)", re.IGNORECASE)
_CONSTRAINTS = {
    "int": r"-?\d{1,10}",
    "long": r"-?\d{1,19}",
    "bool": r"true|false",
    "guid": r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}",
    "alpha": r"[a-z]+",
    "decimal": r"-?\d+(?:\.\d+)?",
    "double": r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?",
    "float": r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?",
    "required": r"[^/]+",
}
# How much a segment says about the path it matches; routes are tried most specific first.
_LITERAL, _CONSTRAINED, _FREE, _CATCH_ALL = range(4)


@dataclass(frozen=True, slots=True)
class Route:
    """One function's route; `methods` is empty when the function answers all of them."""

    function: Function
    template: str
    methods: frozenset[str]
    pattern: re.Pattern[str]
    rank: tuple[int, ...]

    def match(self, path: str) -> dict[str, str] | None:
        """Return the decoded route parameters of a raw path, or None if it does not match."""
        match = self.pattern.fullmatch(path)
        if match is None:
            return None
        return {name: _decoded(text) for name, text in match.groupdict().items() if text}


def _decoded(text: str) -> str:
    """Decode a route parameter; a slash stays escaped, so that one segment stays one."""
    return "".join(part if part.lower() == "%2f" else unquote(part) for part in _SLASH.split(text))


class RouteTable:
    """All routes of an app below one prefix."""

    def __init__(self, functions: list[Function], prefix: str) -> None:
        """Raises ConfigError for a template that cannot be read."""
        self._routes = sorted(
            (_route(function, prefix) for function in functions), key=lambda route: route.rank
        )

    def find(self, method: str, path: str) -> tuple[Function, dict[str, str]] | None:
        """Return the function for a request and its route parameters, or None: not found."""
        path = path.rstrip("/") or "/"
        for route in self._routes:
            if route.methods and method not in route.methods:
                continue
            params = route.match(path)
            if params is not None:
                return route.function, params
        return None

    def url_path(self, function: Function) -> str:
        """Return the path template under which a function answers. Raises KeyError if none."""
        for route in self._routes:
            if route.function is function:
                return route.template
        raise KeyError(function.name)


def _route(function: Function, prefix: str) -> Route:
    own = str(function.trigger.get("route") or function.name).strip("/")
    template = "/".join(part for part in (prefix, own) if part)
    pattern, rank = "", []
    for segment in template.split("/"):
        text, weight = _segment(segment, function.name)
        pattern += text
        rank.append(weight)
    return Route(
        function=function,
        template=f"/{template}",
        methods=frozenset(str(m).upper() for m in function.trigger.get("methods") or ()),
        pattern=re.compile(pattern, re.IGNORECASE),
        rank=tuple(rank),
    )


def _segment(segment: str, function: str) -> tuple[str, int]:
    """Return the pattern of one segment, its slash included, and its rank."""
    found = list(_PARAMETER.finditer(segment))
    literals = _PARAMETER.split(segment)[:: _PARAMETER.groups + 1]
    if any("{" in text or "}" in text for text in literals):
        raise ConfigError(f"{function}: route segment {segment!r} cannot be read")
    if not found:
        return "/" + re.escape(segment), _LITERAL
    pattern, weight = re.escape(literals[0]), _CONSTRAINED
    for match, literal in zip(found, literals[1:], strict=True):
        star, name, constraints, optional = match.groups()
        whole = match[0] == segment
        if (star or optional) and not whole:
            raise ConfigError(f"{function}: {match[0]} must be a whole route segment")
        if star:
            return f"(?:/(?P<{name}>.*))?", _CATCH_ALL
        expression = _constraint(constraints, function)
        weight = weight if constraints else _FREE
        if optional:
            return f"(?:/(?P<{name}>{expression}))?", weight
        pattern += f"(?P<{name}>{expression}){re.escape(literal)}"
    return "/" + pattern, weight


def _constraint(constraints: str, function: str) -> str:
    names = [name for name in constraints.split(":") if name]
    unknown = [name for name in names if name.lower() not in _CONSTRAINTS]
    if unknown or len(names) > 1:
        raise ConfigError(
            f"{function}: the local host knows one of the route constraints "
            f"{', '.join(_CONSTRAINTS)}, not {constraints!r}"
        )
    return _CONSTRAINTS[names[0].lower()] if names else r"[^/]+"


# aiohttp frames the body itself; an app's own framing headers could contradict it.
_FRAMING = frozenset({"content-length", "transfer-encoding", "connection"})


class HttpFunctions:
    """The app's HTTP functions behind their routes."""

    def __init__(
        self,
        functions: list[Function],
        options: HttpOptions,
        invoker: Invoker,
        keys: Keys | None,
    ) -> None:
        """Raises ConfigError for a route template that cannot be read."""
        self._keys = keys
        self.routes = RouteTable(functions, options.route_prefix)
        self._invoker = invoker
        self._slots = (
            asyncio.Semaphore(options.max_concurrent)
            if options.max_concurrent
            else contextlib.nullcontext()
        )
        self._max_outstanding = options.max_outstanding
        self._outstanding = 0

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Invoke the function the request's path and method name; 404 if there is none."""
        found = self.routes.find(request.method, request.rel_url.raw_path)
        if found is None:
            return web.Response(status=404)
        if self._max_outstanding is not None and self._outstanding >= self._max_outstanding:
            return web.Response(status=429)
        function, params = found
        if self._keys and (status := self._keys.refuse_http(function, request)):
            return web.Response(status=status)
        self._outstanding += 1
        try:
            async with self._slots:
                datum = _request_datum(request, params, await request.read())
                outcome = await self._invoker.invoke(
                    function,
                    datum,
                    trace_parent=request.headers.get("traceparent", ""),
                    trace_state=request.headers.get("tracestate", ""),
                )
        finally:
            self._outstanding -= 1
        return _response(outcome)


def _request_datum(request: web.BaseRequest, params: dict[str, str], body: bytes) -> Datum:
    headers: dict[str, Datum] = {}
    for name, value in request.headers.items():
        key = name.lower()
        # Repeated headers and query fields arrive at a function joined by commas.
        joined = f"{headers[key].value},{value}" if key in headers else value
        headers[key] = Datum(joined, "string")
    query: dict[str, Datum] = {}
    for name, value in request.query.items():
        if value:  # the cloud's host drops fields without a value
            joined = f"{query[name].value},{value}" if name in query else value
            query[name] = Datum(joined, "string")
    return Datum(
        {
            "method": Datum(request.method, "string"),
            "url": Datum(str(request.url), "string"),
            "headers": headers,
            "query": query,
            "params": {name: Datum(value, "string") for name, value in params.items()},
            "body": Datum(body, "bytes"),
        },
        "http",
    )


def _response(outcome: Outcome) -> web.Response:
    if not outcome.ok:
        return web.Response(status=500)
    datum = outcome.value
    if datum is None:
        return web.Response(status=204)
    if datum.type != "http":
        return web.Response(text=datum.value)
    value = datum.value
    headers: CIMultiDict[str] = CIMultiDict()
    for name, text in value["headers"].items():
        if name.lower() not in _FRAMING:
            headers.add(name, text.value)
    for cookie in value["cookies"] or ():
        for morsel in cookie.values():
            headers.add("Set-Cookie", morsel.OutputString())
    return web.Response(
        status=int(value["status_code"].value), headers=headers, body=value["body"].value
    )
