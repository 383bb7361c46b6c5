"""A secret's name, and the masked type that holds its value up to the request header."""

from dataclasses import dataclass

from finetune_wandb.model.ids import VaultAddress, parse_vault_url


@dataclass(frozen=True, slots=True, eq=False)
class SecretRef:
    """One secret in one vault. Key Vault ignores case in names, so equality ignores it too."""

    vault: VaultAddress
    name: str
    """In the spelling of the request."""

    @property
    def key(self) -> tuple[str, str]:
        """Vault host and secret name in lower case: equal for every spelling of one secret."""
        return self.vault.host, self.name.lower()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretRef) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        return f"{self.vault.host}/secrets/{self.name}"


def secret_at(host: str, name: str) -> SecretRef:
    """Return the secret that a table or a message names. Raises NoticeError for other hosts."""
    return SecretRef(parse_vault_url(f"https://{host}"), name)


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
