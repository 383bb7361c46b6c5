"""Table `keymints`: how far each rotation has come. Never holds a value."""

from typing import Final

from finetune_wandb.clients.storage.json_rows import JsonRows
from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.model.errors import ConflictError
from finetune_wandb.model.mint import KeyMint, mint_from_json
from finetune_wandb.model.secret import SecretRef

TABLE: Final = "keymints"


class MintTable:
    """MintStore over Azure Tables: one row a secret, written only over what its writer knows."""

    def __init__(self, storage: Storage) -> None:
        self._rows = JsonRows(storage, TABLE)

    async def read(self, secret: SecretRef) -> KeyMint | None:
        data = await self._rows.get(*secret.key)
        return mint_from_json(data) if data else None

    async def list_all(self) -> list[KeyMint]:
        """Return every rotation there was, in no order."""
        return [mint_from_json(data) async for data in self._rows.rows()]

    async def write(self, before: KeyMint | None, after: KeyMint) -> None:
        place = after.secret.key
        if before is None:
            written = await self._rows.add(*place, after.to_json())
        else:
            written = await self._rows.swap(*place, after.to_json(), expected=before.to_json())
        if not written:
            raise ConflictError("another process has the rotation", subject="/".join(place))
