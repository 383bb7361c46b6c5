"""Which faults a run meets: boundary × kind, drawn from its seed.

A fault is a rule of the sandbox (docs/sandbox.md). It is limited to the run's own names where
the path has them; Resource Manager's vault and role paths and W&B's GraphQL endpoint are shared,
so there a fault hits any caller, and only a few times.
"""

import random
from dataclasses import dataclass
from typing import Any, Final

KINDS: Final[dict[str, dict[str, Any]]] = {
    "dropped before": {"drop": "before"},
    "dropped after": {"drop": "after"},
    "429": {"status": 429, "headers": {"Retry-After": "1"}, "body": {"error": {"code": "429"}}},
    "500": {"status": 500, "body": {"error": {"code": "InternalServerError"}}},
    "503": {"status": 503, "headers": {"Retry-After": "1"}, "body": "<html>busy</html>"},
    "slow": {"delay_s": 1.5},
    "slow, then dropped": {"delay_s": 0.8, "drop": "after"},
    "timeout": {"delay_s": 6.0, "drop": "before"},
    "truncated": {"truncate": True},
    "no JSON": {"raw_body": "<html><body>gateway</body></html>"},
    "wrong JSON": {"raw_body": '{"unexpected": [null, 1]}'},
}
_GARBLED: Final = ("no JSON", "wrong JSON")
_MOST_SHARED: Final = 2


def _azure(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


_ROLE: Final = "The principal `p` lacks the required data action `fine-tunes/read` to perform it."
_ANOTHER: Final = "Another operation is being performed on the resource."
REFUSALS: Final[dict[str, dict[int, Any]]] = {
    "fine-tuning": {
        401: _azure("PermissionDenied", _ROLE),
        403: _azure("AccessDenied", "Access denied due to Virtual Network/Firewall rules."),
        404: _azure("404", "Resource not found"),
        409: _azure("conflict", "The operation conflicts with another one."),
        410: _azure("Gone", "The resource is no longer available."),
    },
    "rows": {
        401: {"error": "user is not logged in"},
        403: {"error": "permission denied"},
        404: "default backend - 404",
        409: {"error": "conflict"},
        410: {"error": "the run is gone"},
    },
    "runs and keys": {
        401: {"errors": [{"message": "user is not logged in"}], "data": None},
        403: {"errors": [{"message": "permission denied"}], "data": None},
        404: {"errors": [{"message": "entity x not found during upsertBucket"}], "data": None},
        409: {"errors": [{"message": "conflict"}], "data": None},
        410: {"errors": [{"message": "gone"}], "data": None},
    },
    "secret": {
        401: _azure("Unauthorized", "AKV10000: Request is missing a Bearer or PoP token."),
        403: {"error": {"code": "Forbidden", "innererror": {"code": "ForbiddenByRbac"}}},
        404: _azure("SecretNotFound", "A secret with (name/id) x was not found in this key vault."),
        409: _azure("Conflict", "The secret is being deleted."),
    },
    "Resource Manager": {
        401: _azure("AuthenticationFailed", "Authentication failed."),
        403: _azure("AuthorizationFailed", "The client does not have authorization."),
        404: _azure("ResourceNotFound", "The Resource was not found."),
        409: _azure("Conflict", _ANOTHER),
        410: _azure("Gone", "The resource is gone."),
    },
}
"""By service: what it says when it refuses, in its own words. W&B's 409 for a deleted run is left
out: the app would believe it, and begin a new run."""
_SPEAKERS: Final = {
    **dict.fromkeys(("list of jobs", "events", "checkpoints", "result file"), "fine-tuning"),
    **dict.fromkeys(("account", "roles", "vault"), "Resource Manager"),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """A rule for the sandbox, from `at` to `until` seconds into the run."""

    boundary: str
    at: float
    until: float
    rule: dict[str, Any]


def draw(
    rng: random.Random, account: str, secret: str, job_ids: list[str], span: float
) -> list[Fault]:
    """Return two to seven faults."""
    return [_one(rng, account, secret, rng.choice(job_ids), span) for _ in range(rng.randint(2, 7))]


def _one(rng: random.Random, account: str, secret: str, job: str, span: float) -> Fault:
    host = f"{account}.openai.azure.com"
    places: dict[str, dict[str, str]] = {
        "list of jobs": {"service": "openai", "host_contains": host, "path_contains": "/jobs"},
        "events": {"service": "openai", "host_contains": host, "path_contains": f"{job}/events"},
        "checkpoints": {
            "service": "openai",
            "host_contains": host,
            "path_contains": f"{job}/checkpoints",
        },
        "result file": {"service": "openai", "host_contains": host, "path_contains": "/content"},
        "rows": {"service": "wandb", "path_contains": f"/{job}/file_stream"},
        "runs and keys": {"service": "wandb", "path_contains": "/graphql"},
        "secret": {"service": "vault", "path_contains": f"/secrets/{secret}"},
        # Not the PUT by which the run's own story creates the account.
        "account": {
            "service": "arm",
            "path_contains": f"/accounts/{account}",
            "method": rng.choice(("GET", "PATCH")),
        },
        "roles": {"service": "arm", "path_contains": "/roleAssignments"},
        "vault": {"service": "arm", "path_contains": "/Microsoft.KeyVault/vaults"},
    }
    # Rows are what must be exact: they are hit most.
    boundary = rng.choice([*places, "rows", "rows", "events", "result file"])
    said = REFUSALS[_SPEAKERS.get(boundary, boundary)]
    refusals = {str(status): {"status": status, "body": body} for status, body in said.items()}
    kind = rng.choice([*KINDS, *refusals])
    if boundary in ("roles", "vault") and kind in refusals and rng.random() < 0.9:
        # One such refusal keeps every account of the batch from its key for a while.
        kind = "503"
    if boundary == "result file" and kind in _GARBLED:
        # A result file is any bytes: no reader can tell that these are the wrong ones.
        kind = "truncated"
    at = rng.uniform(0, span - 2)
    rule: dict[str, Any] = {**places[boundary], "action": (KINDS | refusals)[kind]}
    if boundary in ("runs and keys", "roles", "vault"):
        rule["times"] = rng.randint(1, _MOST_SHARED)
    elif rng.random() < 0.6:
        rule["times"] = rng.randint(1, 6)
    else:
        rule["probability"] = rng.choice((0.3, 0.6, 1.0))
        rule["seed"] = rng.randrange(2**31)
    return Fault(f"{boundary}: {kind}", at, min(at + rng.uniform(2, 6), span), rule)
