"""Which key opens which door of the host, once keys are asked for (`HOST_AUTH=on`).

As in Azure: the master key opens everything, the function key opens functions of that level, the
system key opens the Event Grid webhook; the header wins over `?code=`. `func start` asks for no
keys, so this host does not either unless it is made to.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from aiohttp import web

from dev.devhost.functions import Function


@dataclass(frozen=True, slots=True)
class Keys:
    """The host's keys; the settings HOST_MASTER_KEY, HOST_FUNCTION_KEY, HOST_SYSTEM_KEY win."""

    master: str
    function: str
    system: str

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        return cls(
            *(
                environ.get(f"HOST_{kind.upper()}_KEY") or f"local-{kind}-key"
                for kind in ("master", "function", "system")
            )
        )

    def refuse_http(self, function: Function, request: web.BaseRequest) -> int | None:
        """Return the status that refuses a call of an HTTP function, or None: it may pass."""
        level = str(function.trigger.get("authLevel") or "function").lower()
        accepted = {"anonymous": None, "function": (self.master, self.function)}
        wanted = accepted.get(level, (self.master,))
        return None if wanted is None or _is_one_of(request, wanted) else 401

    def refuse_event(self, request: web.BaseRequest) -> int | None:
        """Return the status that refuses a call of the Event Grid webhook, or None."""
        if _is_one_of(request, (self.master, self.system)):
            return None
        return 403 if _is_one_of(request, (self.function,)) else 401

    def refuse_admin(self, request: web.BaseRequest) -> int | None:
        """Return the status that refuses a call of the admin API, or None."""
        return None if _is_one_of(request, (self.master,)) else 401


def _is_one_of(request: web.BaseRequest, keys: tuple[str, ...]) -> bool:
    given = request.headers.get("x-functions-key") or request.query.get("code", "")
    return any(hmac.compare_digest(given.encode(), key.encode()) for key in keys)
