"""Which Entra tenant a subscription belongs to.

Azure knows; the sandbox makes subscriptions up, so the first vault that is created with a
tenant of its own says it for its subscription, and for the identities that are there already.
A later vault with another tenant is a vault of another tenant.
"""

from dataclasses import dataclass, field

from dev.sandbox.store import World
from dev.sandbox.tokens import DEFAULT_TENANT


@dataclass
class Tenants:
    """Tenants by subscription id in lower case."""

    known: dict[str, str] = field(default_factory=dict)


def tenant_of(world: World, subscription: str) -> str:
    return world.part("tenants", Tenants).known.get(subscription.lower(), DEFAULT_TENANT)


def adopt(world: World, subscription: str, tenant: str) -> bool:
    """Take the tenant for a subscription that has said none yet; tell whether it was taken."""
    known = world.part("tenants", Tenants).known
    return known.setdefault(subscription.lower(), tenant) == tenant
