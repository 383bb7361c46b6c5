"""A whole story through the product: each answer the sandbox gave is one the real service gives."""

import re
from pathlib import Path

import pytest
import pytest_asyncio

from dev.tools.demo.api import FineTuning
from tests.dev.sandbox.truth_recorder import Answered, recording
from tests.dev.sandbox.truth_shapes import CONTRACTS, JOB, Contract, misfits
from tests.e2e.driver import ENDED, KEY, running

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def answers(tmp_path_factory: pytest.TempPathFactory) -> list[Answered]:
    """Onboarding with a slow identity, a job that the simulator plays, a rotation, a drift pass."""
    folder: Path = tmp_path_factory.mktemp("truth")
    async with recording() as recorder, running(folder, host_env=recorder.environ) as driver:
        recorder.join(driver.sandbox_url, f"http://127.0.0.1:{driver.stack.ports.wandb}")
        await driver.key_accepted()
        name = await driver.onboard()
        await driver.control("PUT", "simulator", {"seconds_per_step": 0.05})
        api = FineTuning(driver.endpoint(name))
        job = await api.start_job(epochs=2)
        await driver.put_secret(KEY.replace("a", "b"))
        await driver.job_in(job, ENDED, seconds=60)
        await driver.app("POST", "/admin/functions/drift_timer", {})
        entry = await driver.healthy(name)
        await driver.checked_again(name, entry)
        await api.close()
        return recorder.answers


def contract_of(answer: Answered) -> Contract | None:
    path = answer.path
    if path == "/graphql":
        words = re.search(r"(?:query|mutation) (\w+)", str(answer.sent.get("query", "")))
        path = f"/graphql {words[1]}" if words else path
    for contract in CONTRACTS:
        if (answer.service, answer.method) == (contract.service, contract.method) and re.fullmatch(
            contract.path, path
        ):
            return contract
    return None


async def test_every_answer_is_one_that_the_real_service_gives(answers: list[Answered]) -> None:
    wrong: dict[str, str] = {}
    for answer in answers:
        contract = contract_of(answer)
        if contract is None:
            wrong[str(answer)] = "no contract is known for this request"
        elif answer.status not in contract.shapes:
            wrong[str(answer)] = f"status {answer.status}"
        else:
            lacking = [
                name
                for name in contract.headers.get(answer.status, ())
                if name.lower() not in {header.lower() for header in answer.headers}
            ]
            found = misfits(answer.body, contract.shapes[answer.status])
            if lacking or found:
                wrong[str(answer)] = "; ".join([*found[:5], *lacking])
    assert wrong == {}


async def test_every_contract_was_met_with_when_it_has_to_be(answers: list[Answered]) -> None:
    met = {id(contract_of(answer)) for answer in answers}
    missed = [
        f"{contract.service} {contract.method} {contract.path}"
        for contract in CONTRACTS
        if not contract.optional and id(contract) not in met
    ]
    assert missed == []


async def test_correlation_headers_are_those_of_each_service(answers: list[Answered]) -> None:
    wanted = {"arm": "x-ms-request-id", "openai": "apim-request-id"}
    for answer in answers:
        if name := wanted.get(answer.service):
            assert name in {header.lower() for header in answer.headers}, answer


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"status": "done"}, "status"),
        ({"created_at": "1"}, "created_at"),
        ({"extra": 1}, "extra"),
        ({"model": None}, "model"),
        ({"created_at": True}, "created_at"),
    ],
    ids=["unknown status", "text for a number", "unknown field", "null", "truth value"],
)
async def test_misfit_is_named_when_an_answer_is_another(
    change: dict[str, object], word: str
) -> None:
    good = {
        "id": "ftjob-1",
        "object": "fine_tuning.job",
        "created_at": 1,
        "status": "running",
        "model": "m",
        "training_file": "file-1",
    }
    assert misfits(good, JOB) == []
    (text,) = misfits(good | change, JOB)
    assert word in text
