"""What a cold start imports: the triggers and nothing that one of them may never need."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LATE = (
    "finetune_wandb.clients",
    "finetune_wandb.relay",
    "finetune_wandb.accounts",
    "finetune_wandb.keys",
    "finetune_wandb.connect",
    "aiohttp",
    "msgspec",
    "stamina",
    "wandb",
    "openai",
    "azure.core",
    "azure.data",
    "azure.identity",
    "azure.mgmt",
    "azure.storage",
    "opentelemetry",
)


def test_nothing_heavy_is_imported_when_the_app_is_indexed() -> None:
    code = "import sys, function_app; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    loaded = done.stdout.split()
    early = [
        name for name in loaded if name in LATE or name.startswith(tuple(f"{one}." for one in LATE))
    ]
    assert early == []
