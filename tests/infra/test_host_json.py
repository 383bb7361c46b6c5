"""host.json's numbers fit what the code and the platform take for granted."""

import json
import re
from datetime import timedelta

from finetune_wandb.relay.ports import RelayPorts
from handlers import budgets
from handlers.resync import LONGEST_WAIT_S
from tests.infra.bicep import ROOT

HOST = json.loads((ROOT / "host.json").read_text())
QUEUES = HOST["extensions"]["queues"]


def _span(text: str) -> float:
    hours, minutes, seconds = map(int, text.split(":"))
    return timedelta(hours=hours, minutes=minutes, seconds=seconds).total_seconds()


def _constant(file: str, name: str) -> float:
    found = re.search(rf"^_?{name}\b[^=]*= ([\d_.]+)$", (ROOT / file).read_text(), re.M)
    assert found, f"{name} is not in {file}"
    return float(found.group(1))


def test_queue_numbers_are_ones_the_platform_takes() -> None:
    assert 1 <= QUEUES["batchSize"] <= 32
    assert 0 <= QUEUES["newBatchThreshold"] <= 1000
    assert _span(QUEUES["maxPollingInterval"]) >= 1
    # finetune_wandb/clients/storage/service.py encodes so.
    assert QUEUES["messageEncoding"] == "base64"


def test_message_is_tried_several_times_before_it_is_poison() -> None:
    assert 3 <= QUEUES["maxDequeueCount"] <= 10
    assert _span(QUEUES["visibilityTimeout"]) >= 5


def test_cause_is_recorded_at_the_try_after_which_the_host_sets_a_message_aside() -> None:
    assert QUEUES["maxDequeueCount"] == _constant("handlers/queues.py", "LAST_TRY")


def test_functions_end_by_themselves_well_before_the_platform_ends_them() -> None:
    timeout = _span(HOST["functionTimeout"])
    assert timeout <= 900
    longest = max(
        budgets.TICK_S,
        budgets.DRIFT_S,
        budgets.RECONCILE_S,
        budgets.RELAY_S,
        budgets.ARTIFACTS_S,
    )
    assert longest <= 0.8 * timeout
    # The load balancer cuts HTTP answers at 230 seconds.
    assert LONGEST_WAIT_S < budgets.HTTP_S < 230
    # Event Grid gives an endpoint 30 seconds.
    assert budgets.EVENT_S < 30


def test_budgets_hold_what_is_limited_within_them() -> None:
    assert RelayPorts.__dataclass_fields__["budget_s"].default < budgets.RELAY_S
    assert _constant("finetune_wandb/clients/wandb/artifacts.py", "UPLOAD_S") < budgets.ARTIFACTS_S


def test_failures_are_never_sampled_away() -> None:
    excluded = HOST["logging"]["applicationInsights"]["samplingSettings"]["excludedTypes"]
    assert {"Request", "Exception"} <= set(excluded.split(";"))


def test_extension_bundle_has_event_grid_and_identity_based_storage() -> None:
    assert HOST["extensionBundle"]["version"] == "[4.*, 5.0.0)"
