"""The app's clients behind their ports: which one serves whom.

Imported with the first call that needs them, never with the app itself.
"""

import asyncio
import gc
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from clients.account_table import AccountTable
from clients.accounts import Accounts
from clients.artifacts import Artifacts
from clients.cursor_table import CursorTable
from clients.jobs import Jobs
from clients.key_minter import KeyMinter
from clients.key_prover import KeyProver
from clients.key_ring import KeyRing
from clients.key_table import KeyTable
from clients.key_vault import KeyVault
from clients.mint_table import MintTable
from clients.native_jobs import NativeJobs
from clients.network import share_ca_bundle
from clients.notices import Notices
from clients.problem_table import ProblemTable
from clients.queue_stats import QueueStats
from clients.resync_table import ResyncTable
from clients.roles import Roles
from clients.storage import Storage, read_address
from clients.transport import Transport
from clients.vault_resources import VaultResources
from clients.wandb_sink import WandbSink
from clients.work_queue import ARTIFACTS, RECONCILE, RELAY, WorkQueue
from handlers.deps import App
from handlers.refusals import Refusals
from model.relay_ports import RunKey
from model.secret import Secret
from model.settings import Settings
from model.telemetry import NoTelemetry, Telemetry
from reconcile.ports import ReconcilePorts
from reconcile.rotation_ports import RotationPorts
from relay.finder import Finder
from relay.options import options_of
from relay.ports import RelayPorts
from relay.select import closed_states


def connect(settings: Settings, environ: Mapping[str, str]) -> App:
    """Return the app with every client behind its port; nothing is asked of the network yet."""
    _calm_collector()
    share_ca_bundle()
    telemetry = _telemetry(environ)
    transport = Transport(
        settings.sandbox_url, environ.get("AZURE_CLIENT_ID", ""), on_call=_call_counter(telemetry)
    )
    storage = Storage(read_address(environ), transport)
    vault = KeyVault(transport)
    ring = KeyRing(KeyTable(storage), vault)
    # A version that this process takes into use is what its next request carries.
    keys = KeyTable(storage, on_write=ring.note)
    jobs = Jobs(transport, settings.openai_token_scope)
    cursors = CursorTable(storage)
    notices = Notices(transport, settings.notify_topic_endpoint)
    relay_queue = WorkQueue(storage, RELAY)
    options = options_of(settings)
    accounts = AccountTable(storage)
    mints = MintTable(storage)
    problems = ProblemTable(storage)
    reconcile = ReconcilePorts(
        accounts=Accounts(transport),
        vaults=VaultResources(transport, settings.azure_subscription_ids),
        secrets=vault,
        roles=Roles(transport),
        prover=KeyProver(transport, settings.wandb_base_url),
        keys=keys,
    )
    return App(
        settings=settings,
        clock=time.time,
        own_principal=transport.principal_id,
        reconcile=reconcile,
        rotation=RotationPorts(
            reconcile=reconcile,
            minter=KeyMinter(transport, settings.wandb_base_url),
            writer=vault,
            mints=mints,
            clock=lambda: datetime.now(UTC),
            new_id=lambda: uuid.uuid4().hex[:12],
            wait=asyncio.sleep,
            old_key_is_used=NativeJobs(accounts, cursors, jobs).use_old_key,
        ),
        relay=RelayPorts(
            jobs=jobs,
            cursors=cursors,
            sink=WandbSink(transport, settings.wandb_base_url),
            keys=_RunKeys(ring),
            notices=notices,
        ),
        options=options,
        finder=Finder(
            *(jobs, cursors, relay_queue), closed=closed_states(skip_native=options.skip_native)
        ),
        accounts=accounts,
        jobs=cursors,
        keys=keys,
        mints=mints,
        problems=problems,
        refusals=Refusals(problems, time.time),
        resyncs=ResyncTable(storage),
        notices=notices,
        reconcile_queue=WorkQueue(storage, RECONCILE),
        relay_queue=relay_queue,
        artifacts=Artifacts(settings.wandb_base_url),
        artifact_queue=WorkQueue(storage, ARTIFACTS),
        queues=QueueStats(storage, (RECONCILE, RELAY, ARTIFACTS)),
        telemetry=telemetry,
        # Set by the platform; it then strips these headers from what clients send.
        signed_in=environ.get("WEBSITE_AUTH_ENABLED", "").lower() == "true",
    )


def _calm_collector() -> None:
    """Have the garbage collector look at what is new, less often.

    A tick makes many small objects that die by themselves, beside a hundred thousand of imported
    modules that never do; looking through them all was a sixth of its CPU (docs/performance.md).
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _telemetry(environ: Mapping[str, str]) -> Telemetry:
    if environ.get("PYTHON_ENABLE_OPENTELEMETRY", "").lower() not in ("true", "1"):
        return NoTelemetry()
    # Half a second of import that a cold start without it does not pay.
    from clients.telemetry import start

    return start(environ)


def _call_counter(telemetry: Telemetry) -> Callable[[str, int], None]:
    def count(service: str, status: int) -> None:
        telemetry.count("calls", 1, service=service, status=status)

    return count


class _RunKeys:
    """The relay's view of the key ring."""

    def __init__(self, ring: "KeyRing") -> None:
        self._ring = ring

    async def run_key(self, vault: str, secret: str) -> RunKey:
        async def renew() -> Secret:
            return (await self._ring.key_in_use(vault, secret)).value

        key = await self._ring.key_in_use(vault, secret)
        return RunKey(key.entity, key.value, renew)
