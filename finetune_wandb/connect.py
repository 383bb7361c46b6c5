"""Connects the app: which client serves which port.

Imported with the first call, never at start.
"""

import asyncio
import gc
import logging
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime

from finetune_wandb.accounts.ports import ReconcilePorts
from finetune_wandb.clients.azure.accounts import Accounts
from finetune_wandb.clients.azure.jobs import RecordedJobs
from finetune_wandb.clients.azure.notices import Notices
from finetune_wandb.clients.azure.vaults import KeyVault, Roles, VaultResources
from finetune_wandb.clients.key_ring import KeyRing
from finetune_wandb.clients.storage.account_tables import AccountTable, KeyTable, MintTable
from finetune_wandb.clients.storage.audit_table import AuditTable
from finetune_wandb.clients.storage.cursor_table import CursorTable
from finetune_wandb.clients.storage.queues import Queues
from finetune_wandb.clients.storage.service import Storage, read_address
from finetune_wandb.clients.storage.work_tables import ProblemTable, ResyncTable, WorkTable
from finetune_wandb.clients.transport import Transport, share_ca_bundle
from finetune_wandb.clients.wandb.artifacts import Artifacts
from finetune_wandb.clients.wandb.keys import KeyMinter, KeyProver
from finetune_wandb.clients.wandb.sink import WandbSink
from finetune_wandb.flows.app import App
from finetune_wandb.flows.events import RefusedEvents
from finetune_wandb.flows.key import NativeJobs
from finetune_wandb.keys.new_key import RotationPorts
from finetune_wandb.model.settings import Settings
from finetune_wandb.model.telemetry import NoTelemetry, Telemetry
from finetune_wandb.relay.artifacts import ArtifactLog
from finetune_wandb.relay.passes.finder import Finder
from finetune_wandb.relay.ports import RelayPorts, options_of


def connect(settings: Settings, environ: Mapping[str, str]) -> App:
    """Return the app with a client for every port; makes no request."""
    _calm_collector()
    # Request logs of the Azure SDKs would be twenty lines a pass over an account.
    logging.getLogger("azure").setLevel(logging.WARNING)
    share_ca_bundle()
    telemetry = _telemetry(environ)
    transport = Transport(
        settings.sandbox_url,
        environ.get("AZURE_CLIENT_ID", ""),
        on_call=lambda service, status: telemetry.count("calls", 1, service=service, status=status),
    )
    storage = Storage(read_address(environ), transport)
    vault = KeyVault(transport)
    ring = KeyRing(KeyTable(storage), vault)
    # The next request of this process carries the version that it puts into use.
    keys = KeyTable(storage, on_write=ring.note)
    audit = AuditTable(storage)
    jobs = RecordedJobs(transport, settings.openai_token_scope, audit)
    cursors = CursorTable(storage)
    notices = Notices(transport, settings.notify_topic_endpoint)
    queues = Queues(storage)
    options = options_of(settings)
    finder = Finder(jobs, cursors, queues, skip_native=options.skip_native)
    accounts = AccountTable(storage, settings.routes, settings.default_tags)
    problems = ProblemTable(storage)
    reconcile = ReconcilePorts(
        accounts=Accounts(transport),
        vaults=VaultResources(transport, settings.azure_subscription_ids),
        secrets=vault,
        roles=Roles(transport),
        prover=KeyProver(transport, settings.wandb_base_url),
        keys=keys,
        audit=audit,
        own_principal=transport.principal_id,
    )
    relay = RelayPorts(
        jobs=jobs,
        cursors=cursors,
        sink=WandbSink(transport, settings.wandb_base_url),
        keys=ring,
        new_id=lambda: uuid.uuid4().hex[:12],
        notices=notices,
    )
    return App(
        settings=settings,
        clock=time.time,
        own_principal=transport.principal_id,
        reconcile=reconcile,
        rotation=RotationPorts(
            look=reconcile,
            minter=KeyMinter(transport, settings.wandb_base_url),
            writer=vault,
            mints=MintTable(storage),
            clock=lambda: datetime.now(UTC),
            new_id=lambda: uuid.uuid4().hex[:12],
            wait=asyncio.sleep,
            old_key_is_used=NativeJobs(accounts, finder.pages).use_old_key,
        ),
        relay=relay,
        options=options,
        finder=finder,
        accounts=accounts,
        audit=audit,
        problems=problems,
        refused_events=RefusedEvents(problems, time.time),
        resyncs=ResyncTable(storage),
        notices=notices,
        artifacts=ArtifactLog(
            relay,
            Artifacts(transport, settings.wandb_base_url),
            with_content=settings.datasets == "content",
        ),
        queues=queues,
        work=WorkTable(storage),
        telemetry=telemetry,
        # Set by the platform, which then strips these headers from requests.
        signed_in=environ.get("WEBSITE_AUTH_ENABLED", "").lower() == "true",
    )


def _calm_collector() -> None:
    """Let the garbage collector scan new objects only, and less often.

    A tick makes many short-lived objects beside a hundred thousand of imported modules that
    never die; scanning them all was a sixth of its CPU (docs/performance.md).
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _telemetry(environ: Mapping[str, str]) -> Telemetry:
    if environ.get("PYTHON_ENABLE_OPENTELEMETRY", "").lower() not in ("true", "1"):
        return NoTelemetry()
    # Its import takes half a second, which a cold start without it saves.
    from finetune_wandb.clients.telemetry import start

    return start(environ)
