"""Composition root: the environment in, every function registered. Nothing connects on import."""

import os

import azure.functions as func

from composition import Composition
from handlers.triggers import blueprint

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
app.register_functions(blueprint(Composition(os.environ)))
