"""Takes credentials out of texts that leave the app: event messages, error texts, metadata.

Only named fields of a job are relayed, so its graders' source, headers and keys never get
here. Azure's own texts can still quote them, such as a grader's address with its function key.
"""

import re
from typing import Final

MASK: Final = "[redacted]"

_NUMBERS_ONLY: Final = re.compile(r"Step \d+(?:/\d+)?: (?:[a-z_ ]{1,60}=-?[\d.e+-]{1,30}(?:, |$))+")
"""The line of a step, which most lines are: it names numbers and can hold nothing else."""
_CREDENTIALS: Final = (
    # A header or field with its value: `X-Functions-Key: …`, `"api_key": "…"`, `password=…`.
    re.compile(
        r"(?P<lead>[\w-]{0,40}(?:api[-_]?key|functions[-_]?key|access[-_]?key|subscription[-_]?key"
        r"|account[-_]?key|secret|password|credential|(?:access|refresh|(?<!val)id|auth|bearer|sas)[-_]?token)"
        r"[\w-]{0,40}[\"']?\s{0,4}[:=]\s{0,4}[\"']?)(?P<value>[^\s\"',;&}]+)",
        re.IGNORECASE,
    ),
    re.compile(
        r"(?P<lead>authorization[\"']?\s*[:=]\s*[\"']?(?:(?:bearer|basic|digest|negotiate)\s+)?)"
        r"(?P<value>[^\s\"',;&}]+)",
        re.IGNORECASE,
    ),
    re.compile(r"(?P<lead>\b(?:bearer|basic)\s+)(?P<value>[\w.~+/=-]{16,})", re.IGNORECASE),
    # A URL's query: function keys, shared access signatures.
    re.compile(r"(?P<lead>[?&](?:code|sig|key|token)=)(?P<value>[^\s\"'&<>]+)", re.IGNORECASE),
    # A URL's user and password.
    re.compile(r"(?P<lead>://)(?P<value>[^/\s@]+)(?=@)"),
    # Keys with a known format.
    re.compile(
        r"(?P<lead>)(?P<value>\bwandb_v1_\w{16,}|\bsk-[\w-]{16,}|\beyJ[\w-]{4,}\.[\w.-]{8,})"
    ),
)


def redacted(text: str) -> str:
    """Return the text with every credential in it replaced by MASK."""
    if _NUMBERS_ONLY.fullmatch(text):
        return text
    for pattern in _CREDENTIALS:
        text = pattern.sub(rf"\g<lead>{MASK}", text)
    return text


def redacted_value(name: str, value: str) -> str:
    """Return the value of a named field, or MASK if name or value shows a credential."""
    lead = f"{name}: "
    shown = redacted(f"{lead}{value}")
    return shown[len(lead) :] if shown.startswith(lead) else MASK
