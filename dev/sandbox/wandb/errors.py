"""The refusals of the W&B stand-in: status, text and code, as a client meets them."""

from typing import Any

from aiohttp import web

from dev.sandbox.http import json_response


class Refusal(Exception):
    """A request the service turns down. `code` is the GraphQL error extension, where it has one."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code

    @property
    def extensions(self) -> dict[str, Any]:
        """What graphql-core copies into the error it reports for a resolver."""
        return {"code": self.code} if self.code else {}


def not_logged_in() -> Refusal:
    return Refusal(401, "user is not logged in", "PERMISSION_ERROR")


def permission_denied() -> Refusal:
    return Refusal(403, "permission denied", "PERMISSION_ERROR")


def run_was_deleted(path: str) -> Refusal:
    return Refusal(409, f"run {path} was previously created and deleted; try a new run name")


def graphql_refusal(refusal: Refusal) -> web.Response:
    """Return the refusal in the body shape of the GraphQL endpoint."""
    error: dict[str, Any] = {"message": refusal.message}
    if refusal.code:
        error["extensions"] = {"code": refusal.code}
    return json_response({"errors": [error], "data": None}, status=refusal.status)


def plain_refusal(refusal: Refusal) -> web.Response:
    """Return the refusal in the body shape of the paths outside GraphQL."""
    return json_response({"error": refusal.message}, status=refusal.status)
