"""`POST /graphql`: documents are parsed, checked against the schema and executed field by field.

Which operation name a client chose is of no account. Refusals by resolvers decide the HTTP status,
as the real service's do; a document the schema does not know is 400.
"""

from functools import lru_cache
from typing import Any

from aiohttp import web
from graphql import (
    DocumentNode,
    ExecutionResult,
    FieldNode,
    GraphQLError,
    OperationDefinitionNode,
    execute_sync,
    get_operation_ast,
    parse,
    validate,
)

from dev.sandbox.http import json_response
from dev.sandbox.wandb import mutate_artifacts as wandb_mutate_artifacts
from dev.sandbox.wandb import mutate_runs as wandb_mutate_runs
from dev.sandbox.wandb import read_artifacts as wandb_read_artifacts
from dev.sandbox.wandb import read_runs
from dev.sandbox.wandb.keys import Refusal
from dev.sandbox.wandb.lines import loads
from dev.sandbox.wandb.schema import Context, read_field, schema_with

_SCHEMA = schema_with(
    read_runs.TABLE,
    wandb_read_artifacts.TABLE,
    wandb_mutate_runs.TABLE,
    wandb_mutate_artifacts.TABLE,
    abstract=wandb_read_artifacts.ABSTRACT,
)


@lru_cache(maxsize=512)
def _compiled(query: str) -> tuple[DocumentNode | None, tuple[GraphQLError, ...]]:
    """Parse and validate once per text: clients send the same few documents all the time."""
    try:
        document = parse(query, no_location=True)
    except GraphQLError as error:
        return None, (error,)
    return document, tuple(validate(_SCHEMA, document))


def answer(ctx: Context, body: bytes) -> tuple[web.Response, str | None, str | None]:
    """Execute one request. Returns the answer, the operation's name and its first field."""
    try:
        request = loads(body)
        query = request["query"]
        variables = request.get("variables") or {}
        # wandb-core sends an empty name where it has none.
        name = request.get("operationName") or None
        if isinstance(variables, str):
            variables = loads(variables)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise Refusal(400, "the body must be a JSON object with a query") from None
    document, faults = _compiled(str(query))
    if document is None or faults:
        return _bad_document(faults), None, None
    operation = get_operation_ast(document, name)
    if operation is None:
        raise Refusal(400, "the document needs one operation, or an operationName")
    result = execute_sync(
        _SCHEMA,
        document,
        context_value=ctx,
        variable_values=variables,
        operation_name=name,
        field_resolver=read_field,
    )
    field = _first_field(operation)
    return _shown(result), (operation.name.value if operation.name else field), field


def _first_field(operation: OperationDefinitionNode) -> str | None:
    for node in operation.selection_set.selections:
        if isinstance(node, FieldNode):
            return node.name.value
    return None


def _bad_document(faults: tuple[GraphQLError, ...]) -> web.Response:
    # The service quotes names with double quotes, and clients search the text for them.
    errors = [{"message": fault.message.replace("'", '"')} for fault in faults]
    return json_response({"errors": errors}, status=400)


def _shown(result: ExecutionResult) -> web.Response:
    body: dict[str, Any] = {"data": result.data}
    if not result.errors:
        return json_response(body)
    body["errors"] = [error.formatted for error in result.errors]
    status = 200
    for error in result.errors:
        cause = error.original_error
        if isinstance(cause, Refusal):
            return json_response(body, status=cause.status)
        if cause is None:
            status = 400
        elif not isinstance(cause, GraphQLError):
            # A bug of the stand-in: let the server log it and answer 500.
            raise cause
    return json_response(body, status=status)
