"""Every error that crosses a layer, split first by whether trying again can help.

Messages are shown to people and stored in tables: they carry ids, names and codes, never the
value of a secret and never a whole response body.
"""


class AppError(Exception):
    """Base. `subject` is the resource or job id that the error is about."""

    def __init__(
        self, message: str, *, subject: str = "", code: str = "", remedy: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.subject = subject
        self.code = code
        """The service's own error code, for example `ForbiddenByRbac`; empty without one."""
        self.remedy = remedy


class TemporaryError(AppError):
    """Trying again can help. `retry_after` is in seconds, None if the service named no time."""

    def __init__(self, message: str, *, retry_after: float | None = None, **more: str) -> None:
        super().__init__(message, **more)
        self.retry_after = retry_after


class ThrottledError(TemporaryError):
    """The service asked for a pause (429)."""


class UnavailableError(TemporaryError):
    """No answer, a broken answer, or a server-side failure."""


class NotReadyError(TemporaryError):
    """The resource exists but cannot be used yet: a new identity, a role not yet in effect."""


class ConflictError(TemporaryError):
    """Another writer came first (412, 409)."""


class PermanentError(AppError):
    """Trying the same again cannot help."""


class SettingsError(PermanentError):
    """A setting is missing or malformed; `subject` is its name."""


class NoticeError(PermanentError):
    """An event, message or request body cannot be understood; `subject` is the field."""


class DeniedError(PermanentError):
    """The identity has no right to do this (401, 403)."""


class MissingError(PermanentError):
    """The resource does not exist (404)."""


class RejectedError(PermanentError):
    """The service understood the request and refused it (other 4xx)."""
