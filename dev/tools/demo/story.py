"""The acts in their order, and the verdict."""

from collections.abc import Mapping

import aiohttp

from dev.tools.demo import onboarding, readback, replay, stage
from dev.tools.demo.api import FineTuning
from dev.tools.demo.cloud import Cloud
from dev.tools.demo.proof import Report, RunProof, prove
from dev.tools.demo.rotation import Rotation
from dev.tools.demo.screen import Screen
from dev.tools.demo.training import Training
from dev.tools.lines import lines
from dev.tools.local_stack import ROOT, Stack


async def tell(stack: Stack, screen: Screen, report: Report, environ: Mapping[str, str]) -> None:
    """Play the story on a running stack and fill the report. Raises StoryError when it breaks."""
    settings = stage.read(stack, ROOT, environ)
    keys = stage.keys(stack, environ)
    own_wandb = stage.is_own_wandb(stack)
    timeout = aiohttp.ClientTimeout(total=30)
    async with (
        aiohttp.ClientSession(timeout=timeout) as http,
        lines(readback.MODULE, log=stack.run_dir / "readback.log") as reader,
    ):
        cloud = Cloud(
            http,
            sandbox_url=stack.sandbox_url,
            host_url=stack.host_url,
            subscription=settings.azure_subscription_ids[0],
            vault=settings.key_vault_url.name,
            secret=settings.wandb_secret_name,
        )
        screen.act("An Azure OpenAI account appears")
        # Where accounts are taken by their tag alone, this one has it.
        tags = {"wandb-integration": "on"} if settings.onboarding_scope == "tagged" else {}
        entry = await onboarding.play(cloud, screen, keys.first, tags)
        report.account_healthy = bool(entry["healthy"])

        screen.act("Fine-tuning jobs run; their values arrive in W&B while they train")
        api = FineTuning(cloud.endpoint(onboarding.ACCOUNT))
        rotation = Rotation(cloud, screen, first=keys.first, second=keys.second)
        training = Training(
            cloud,
            api,
            screen,
            replay=replay.load(stage.samples_folder(ROOT)),
            rotation=rotation,
            own_wandb=own_wandb,
        )
        try:
            await training.start()
            await training.watch()
            jobs = await training.settle()
            pages = {job["id"]: job["run_url"] for job in jobs}
            report.key_version = rotation.version
            report.lag_s = training.lags

            screen.act("The runs are read back with wandb.Api, every value is compared")
            report.proofs = await prove(
                jobs, api, reader, base_url=stack.wandb_url, key=keys.second
            )
        finally:
            await api.close()
        if own_wandb and rotation.watches:
            report.old_key_requests, report.new_key_requests = await rotation.counts()
        for proof in report.proofs:
            url = f"{stack.sandbox_url}/_sandbox/wandb/runs/{proof.path}"
            _show(proof, screen, url if own_wandb else pages[proof.job])
        if report.old_key_requests is not None:
            screen.say(
                f"requests for rows since the switch of keys: {report.new_key_requests} with the "
                f"new key, {report.old_key_requests} with the old one"
            )


def _show(proof: RunProof, screen: Screen, url: str) -> None:
    counts = proof.comparison.counts()
    text = (
        f"{proof.job}: {counts['found']} of {counts['expected']} values, "
        f"{counts['missing']} missing, {counts['duplicate']} duplicate; "
        f"run {proof.state}, status {proof.status or 'none'}"
    )
    (screen.good if proof.holds else screen.bad)(text)
    screen.say(f"  {url}", "dim")
