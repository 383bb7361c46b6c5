"""Importing the clients costs nothing: heavy packages come in when they are used."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = (
    "azure.accounts",
    "azure.vaults",
    "wandb.keys",
    "storage.account_tables",
    "key_ring",
    "azure.notices",
    "translate",
)
HEAVY = ("azure.core", "azure.mgmt", "azure.keyvault", "azure.eventgrid", "azure.data", "aiohttp")


def test_nothing_heavy_is_imported_with_the_clients() -> None:
    code = (
        "import sys\n"
        + "".join(f"import finetune_wandb.clients.{name}\n" for name in MODULES)
        + "import finetune_wandb.accounts.reconcile, finetune_wandb.accounts.notify\n"
        + f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
