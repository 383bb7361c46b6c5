"""What the handlers are given, made from the environment: settings at once, the app when needed.

Nothing but the standard library is imported here: every cold start imports this file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from handlers.deps import App
    from model.settings import Settings


class Composition:
    """Deps for the handlers; connects on first use."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._app: App | None = None
        self._lock = asyncio.Lock()

    def settings(self) -> Settings:
        """Return the settings. Raises SettingsProblems naming each wrong one."""
        from model.settings import read_settings

        return read_settings(self._environ)

    async def app(self) -> App:
        """Return the connected app. Raises SettingsProblems."""
        if self._app is None:
            from connect import connect

            async with self._lock:
                if self._app is None:
                    self._app = connect(self.settings(), self._environ)
        return self._app
