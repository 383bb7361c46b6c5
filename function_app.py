"""Composition root: the environment in, every function registered. Nothing connects on import."""

import os

import azure.functions as func

from composition import Composition
from handlers import (
    account_event,
    dashboard,
    drift_timer,
    health,
    job_artifacts,
    openapi,
    reconcile_account,
    relay_jobs,
    relay_timer,
    resync,
    status,
    vault_event,
)

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
_deps = Composition(os.environ)
for _handler in (
    account_event,
    vault_event,
    reconcile_account,
    relay_timer,
    relay_jobs,
    job_artifacts,
    drift_timer,
    resync,
    status,
    dashboard,
    openapi,
    health,
):
    app.register_functions(_handler.blueprint(_deps))
