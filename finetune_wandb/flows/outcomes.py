"""Reports what came of a piece of work: one log line, a span, and the metrics.

A line has the form `job ID: state=… values=…`: `name=value` pairs, values with blanks in quotes.
Ids and codes only, never a secret. The alert rules in infra/ look for how these lines begin.
"""

import logging
from typing import Final

from finetune_wandb.flows.app import App
from finetune_wandb.model.accounts.account import RelayAccount
from finetune_wandb.model.accounts.report import AccountReport
from finetune_wandb.model.telemetry import Attribute
from finetune_wandb.relay.passes.job_pass import JobOutcome

log = logging.getLogger(__name__)

_QUIET: Final = ("", None)


def pairs(**values: object) -> str:
    """Return values as `name=value` pairs, without the empty ones."""
    return " ".join(f"{name}={_text(one)}" for name, one in values.items() if one not in _QUIET)


def _text(value: object) -> str:
    text = " ".join(str(value).replace('"', "'").split())
    return f'"{text}"' if not text or " " in text or "=" in text else text


def report_job(outcome: JobOutcome, account: RelayAccount, app: App) -> None:
    """Report what came of one job in one pass."""
    telemetry = app.telemetry
    state = outcome.relay_state
    attributes: dict[str, Attribute] = {
        "azure.account.id": account.key,
        "finetune.job.id": outcome.job,
        "relay.state": state,
        "relay.values": outcome.values,
    }
    with telemetry.span("relay job", **attributes) as span:
        if outcome.error:
            span.fail(outcome.error)
    telemetry.count("relay.passes", 1, state=state, failed=bool(outcome.error))
    if outcome.values:
        telemetry.count("relay.values", outcome.values, account=account.name)
        if outcome.lag_s is not None:
            telemetry.measure("relay.lag", outcome.lag_s, account=account.name)
    line = pairs(
        state=state,
        account=account.key,
        values=outcome.values,
        lag_s=None if outcome.lag_s is None else round(outcome.lag_s, 1),
        error=outcome.error,
        remedy=outcome.remedy,
    )
    if outcome.error:
        log.warning("job %s: %s", outcome.job, line)
    elif outcome.values or state == "complete":
        log.info("job %s: %s", outcome.job, line)


def report_account(report: AccountReport, app: App) -> None:
    """Report what one pass over an account found and did."""
    blocked = [one.cause for one in report.findings if one.severity == "blocked"]
    for finding in report.findings:
        if finding.severity != "ok":
            app.telemetry.count(
                "account.findings", 1, cause=finding.cause, severity=finding.severity
            )
    failed = [step.step.kind for step in report.steps if step.state == "failed"]
    said = (
        report.key,
        "healthy" if report.healthy else "not healthy",
        len(report.steps),
        pairs(mode=report.mode, blocked=",".join(blocked), failed=",".join(failed)),
    )
    if blocked or failed:
        log.warning("account %s: %s, %d steps, %s", *said)
    else:
        log.info("account %s: %s, %d steps, %s", *said)
