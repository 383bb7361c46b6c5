"""The masked type that a W&B key lives in from the vault to the request header."""

import hashlib


class Secret:
    """A value that cannot be printed, pickled, compared by guessing, or put into JSON.

    Only `reveal()` returns it, and only the client that builds the request header calls that.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself."""
        return self._value

    def fingerprint(self) -> str:
        """Return 12 hex digits that tell two keys apart without saying anything about either."""
        return hashlib.sha256(b"key-fingerprint:" + self._value.encode()).hexdigest()[:12]

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a Secret cannot be pickled")
