"""One situation's own account and vault: what a test does to them, as someone else than the app."""

from dataclasses import dataclass
from datetime import UTC, datetime

from tests.e2e.onboarding.place import Json, Place, account_id, key_of, vault_id


@dataclass(frozen=True)
class Scene:
    """One situation's own account and vault in the place."""

    place: Place
    name: str
    vault: str

    async def fault(self, method: str, below: str, **action: Json) -> None:
        """Let calls of a method go wrong until `end_faults`; `below` is part of the path."""
        service = "vault" if below.startswith("/secrets/") else "arm"
        rule: dict[str, Json] = {"service": service, "method": method, "name": self.name}
        if service == "vault":
            rule |= {"host_contains": f"{self.vault}.", "path_contains": "/secrets/"}
        else:
            rule |= {"path_contains": below}
        await self.place.control("POST", "faults", rule | {"action": action})

    async def end_faults(self) -> int:
        """Take this situation's faults away; return how often they acted."""
        hits: int = (await self.place.control("DELETE", f"faults/{self.name}"))["hits"]
        return hits

    async def secret(self, **more: Json) -> None:
        await self.place.put_secret(self.vault, **more)

    async def until_hit(self) -> None:
        """Wait until a fault of this situation has begun to act."""

        async def hits() -> int:
            rules = await self.place.control("GET", "faults")
            return sum(rule["hits"] for rule in rules if rule["name"] == self.name)

        await self.place.until(hits, lambda found: found > 0, 60)

    async def own_key(self, kind: str = "", **more: Json) -> str:
        """Register a key of this situation with W&B and return its value."""
        value = key_of(f"{self.vault} {kind}")
        await self.place.control("PUT", "wandb/keys", {"key": value} | more)
        return value

    async def deny(self, code: str | None) -> None:
        await self.place.control("PUT", f"vaults/{self.vault}/access", {"deny": code})

    async def patch(self, **body: Json) -> Json:
        """Change the account as a person does, with the event of it: by PUT, which the app
        never sends to an account."""
        now = await self.place.account(self.name)
        return await self.place.arm("PUT", account_id(self.name), now | body)

    async def tag(self, **tags: str | None) -> None:
        """Set tags of the account (None removes one); underscores stand for hyphens."""
        found = dict((await self.place.account(self.name)).get("tags") or {})
        for name, value in tags.items():
            found.pop(name.replace("_", "-"), None)
            if value is not None:
                found[name.replace("_", "-")] = value
        await self.patch(tags=found)

    async def pace(self, **seconds: float) -> None:
        await self.place.control("PUT", f"settings/{self.name}", seconds)

    async def change_vault(self, **properties: Json) -> None:
        await self.place.arm("PATCH", vault_id(self.vault), {"properties": properties})

    async def principal(self) -> str:
        return str((await self.place.account(self.name))["identity"]["principalId"])

    async def look(self) -> None:
        """Have the account looked at, as an event does that was raised by someone else."""
        await self.place.event("account_event", write_event(account_id(self.name)))


def write_event(resource_id: str, **more: Json) -> Json:
    """Return the event of a write to an account, by a person; `more` goes into its data."""
    subscription = resource_id.split("/")[2]
    return {
        "id": f"event-{resource_id.rsplit('/', 1)[1]}",
        "topic": f"/subscriptions/{subscription}",
        "subject": resource_id,
        "eventType": "Microsoft.Resources.ResourceWriteSuccess",
        "eventTime": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "data": {
            "resourceUri": resource_id,
            "operationName": "Microsoft.CognitiveServices/accounts/write",
            "status": "Succeeded",
            "claims": {"name": "Somebody Private", "ipaddr": "203.0.113.77"},
        }
        | more,
        "dataVersion": "2",
        "metadataVersion": "1",
    }
