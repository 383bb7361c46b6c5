"""Composition root: the environment in, every function registered. Nothing connects on import.

Every cold start imports this file, so it imports nothing heavy: the app connects with its first
call (docs/performance.md, "Cold start").
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import azure.functions as func

from handlers.triggers import blueprint

if TYPE_CHECKING:
    from finetune_wandb.flows.app import App
    from finetune_wandb.model.settings import Settings


class Composition:
    """Deps for the handlers; connects on first use."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._app: App | None = None
        self._lock = asyncio.Lock()

    def settings(self) -> Settings:
        """Return the settings. Raises SettingsProblems naming each wrong one."""
        from finetune_wandb.model.settings import read_settings

        return read_settings(self._environ)

    async def app(self) -> App:
        """Return the connected app. Raises SettingsProblems."""
        if self._app is None:
            from finetune_wandb.connect import connect

            async with self._lock:
                if self._app is None:
                    self._app = connect(self.settings(), self._environ)
        return self._app


app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
app.register_functions(blueprint(Composition(os.environ)))
