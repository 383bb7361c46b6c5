"""A run's attributes from its job and account: names, group, tags, notes and config.

The config is a list of named fields, never the job object itself: job objects can carry
grader source code, endpoint headers and keys.
"""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

import orjson

from finetune_wandb.model.accounts.account import TAG_ENTITY, TAG_PROJECT, RelayAccount
from finetune_wandb.model.relay.cursor import RunPath
from finetune_wandb.model.relay.job import Job, WandbIntegration
from finetune_wandb.model.relay.ports import RunAttributes
from finetune_wandb.model.routes import Rule, first_match

DEFAULT_TAG: Final = "azure-openai"
JOB_TYPE: Final = "fine-tune"
_SHOWN_AS_TAG: Final = ("cancelled", "paused")
"""Statuses that W&B has no state for."""
_MAX_NAME: Final = 128
_MAX_TAG: Final = 64
_MAX_CONFIG: Final = 15_000_000
"""Bytes; W&B answers 400 to a run with more, and to a name, group or tag that is longer.

Source: reports in W&B's issue tracker and documentation, read 2026-11-24.
"""
_MAX_RUN_ID: Final = 64
_BAD_IN_ID: Final = str.maketrans(dict.fromkeys(":;,#?/'\\%", "-"))
_PORTAL: Final = "https://portal.azure.com/#resource"
_BAD_IN_PROJECT: Final = set("/\\#?%:")


def run_path(job: Job, account: RelayAccount, *, key_entity: str, generation: int = 1) -> RunPath:
    """Return where a job's run belongs: the job's own word, its metadata, the account's tags, the
    first rule of ROUTES that fits, then the settings.

    A job with its own W&B integration has a run of the job's id from that already; a run that was
    deleted leaves its id used up, and the next generation follows.
    """
    own, named = job.wandb or WandbIntegration(), job.metadata.get
    rule, tags = _rule(job, account), account.tags
    project = own.project or named("wandb_project") or tags.get(TAG_PROJECT) or rule.project
    entity = own.entity or named("wandb_entity") or tags.get(TAG_ENTITY) or rule.entity
    project, entity = project or account.project, entity or account.entity or key_entity
    suffix = "" if job.wandb is None else "-relay"
    if generation > 1:
        suffix += f"-{generation}"
    return RunPath(entity, project, run_id(job.id, suffix))


def _rule(job: Job, account: RelayAccount) -> Rule:
    return first_match(account.routes, job.model, job.suffix, job.metadata)


def path_problem(run: RunPath) -> str:
    """Say why W&B would refuse a run's project or entity; empty when it would not."""
    # W&B takes no entity for the key's own.
    for kind, name in (("project", run.project), ("entity", run.entity or "own")):
        if not name or len(name) > 128 or _BAD_IN_PROJECT & set(name):
            return f"the W&B {kind}'s name must be 1-128 characters without / \\ # ? % :"
    return ""


def run_id(job_id: str, suffix: str = "") -> str:
    """Return the job's id with what W&B refuses in a run id replaced."""
    wanted = job_id.strip()
    name = wanted.translate(_BAD_IN_ID)
    if name != wanted or len(name) + len(suffix) > _MAX_RUN_ID:
        # Two ids may become the same one by this; their runs must not.
        suffix = f"-{zlib.crc32(wanted.encode('utf-8', 'replace')):08x}{suffix}"
    return f"{name[: _MAX_RUN_ID - len(suffix)]}{suffix}"


def run_attributes(
    job: Job,
    account: RelayAccount,
    *,
    asked: Mapping[str, Any],
    files: Mapping[str, Any],
    relay_id: str = "",
) -> RunAttributes:
    """Return everything about the job's run but its values.

    `asked` has the hyperparameters as they were first seen, before Azure resolved them; `files`
    the facts of the job's files, where they were measured; `relay_id` tells the run from another
    deployment's.
    """
    own = job.wandb or WandbIntegration()
    rule = _rule(job, account)
    tags = [DEFAULT_TAG, *account.run_tags, *rule.tags, *own.tags]
    tags += job.metadata.get("wandb_tags", "").split(",")
    if job.status in _SHOWN_AS_TAG:
        tags.append(job.status)
    clean = dict.fromkeys(cut for tag in tags if (cut := _cut(tag, _MAX_TAG)))
    return RunAttributes(
        display_name=_cut(own.name or job.suffix or job.id, _MAX_NAME) or _cut(job.id, _MAX_NAME),
        group=_cut(rule.group or job.model, _MAX_NAME),
        job_type=JOB_TYPE,
        tags=tuple(clean),
        # Jobs have no stable address in the portal.
        notes=f"Fine-tuning job {job.id} of this [Azure account]({_PORTAL}{account.id}/overview)",
        config=_fitting({**_config(job, account, asked, relay_id), **files}),
    )


def with_tags(attributes: RunAttributes, known: Iterable[str] | None) -> RunAttributes:
    """Return the attributes with the tags that W&B has: people's own stay, ours that no longer
    apply go. Where it is not known which it has, the tags stay as they are."""
    if known is None:
        return replace(attributes, tags=())
    kept = (tag for tag in known if tag not in _SHOWN_AS_TAG)
    return replace(attributes, tags=tuple(dict.fromkeys((*kept, *attributes.tags))))


def _cut(text: str, most: int) -> str:
    """Return as many whole characters of a text as its first `most` bytes hold."""
    return text.strip().encode("utf-8", "ignore")[:most].decode("utf-8", "ignore").strip()


def _fitting(config: dict[str, Any]) -> dict[str, Any]:
    """Return the config without its largest fields, as far as it is more than W&B takes."""
    if len(orjson.dumps(config)) <= _MAX_CONFIG:
        return config
    sizes = {name: len(orjson.dumps({name: value})) for name, value in config.items()}
    fitting: dict[str, Any] = {**config, "left_out": []}
    while sum(sizes.values()) > _MAX_CONFIG:
        largest = max(sizes, key=lambda name: sizes[name])
        del sizes[largest], fitting[largest]
        fitting["left_out"].append(largest)
    return fitting


def _config(
    job: Job, account: RelayAccount, asked: Mapping[str, Any], relay_id: str
) -> dict[str, Any]:
    config: dict[str, Any] = {
        "job_id": job.id,
        "model": job.model,
        "method": job.method or "supervised",
        "hyperparameters": dict(job.hyperparameters),
        "hyperparameters_asked": dict(asked),
        "training_file": job.training_file,
        "validation_file": job.validation_file,
        "seed": job.seed,
        "suffix": job.suffix,
        "training_type": job.training_type,
        "created_at": job.created_at,
        "account": account.name,
        "account_id": str(account.id),
        "subscription": account.subscription,
        "region": account.region,
        "relay_id": relay_id,
        "metadata": {
            name: value for name, value in job.metadata.items() if not name.startswith("wandb_")
        },
    }
    return {name: value for name, value in config.items() if value not in (None, "", {})}
