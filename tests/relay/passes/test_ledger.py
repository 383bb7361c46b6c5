"""The ledger is exact like a set, and small where steps come in progressions."""

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune_wandb.relay.passes.ledger import Ledger

_claims = st.lists(
    st.tuples(st.integers(0, 40) | st.integers(0, 2**62), st.sampled_from("abc")), max_size=60
)


@settings(max_examples=150)
@given(st.lists(_claims, max_size=4))
def test_ledger_knows_what_a_set_knows_when_it_is_dumped_between_passes(
    passes: list[list[tuple[int, str]]],
) -> None:
    ledger, known = Ledger(), set()
    for claims in passes:
        for step, metric in claims:
            assert ledger.claim(step, metric) == ((step, metric) not in known)
            known.add((step, metric))
        ledger = Ledger.load(orjson.loads(orjson.dumps(ledger.dump())))
        assert ledger.count == len(known)
    assert not any(ledger.claim(*one) for one in known)


@settings(max_examples=150)
@given(_claims, _claims)
def test_dump_stays_as_it_was_when_more_is_claimed(
    first: list[tuple[int, str]], later: list[tuple[int, str]]
) -> None:
    """A claim that comes to nothing must not reach the cursor through a dump made before."""
    ledger = Ledger()
    for claim in first:
        ledger.claim(*claim)
    dump = ledger.dump()
    text = orjson.dumps(dump)
    for claim in later:
        ledger.claim(*claim)
    assert orjson.dumps(dump) == text


@pytest.mark.parametrize(
    "steps",
    [
        range(1, 100_001),
        range(0, 1_000_000, 10),
        [*range(1, 100_000, 2), *range(2, 100_000, 2)],
        [*range(50_000, 100_000), *range(50_000)],
    ],
    ids=["every", "every tenth", "gaps filled later", "second half first"],
)
def test_ledger_stays_small_when_a_job_has_100_000_steps(steps: list[int]) -> None:
    ledger = Ledger()
    for place, step in enumerate(steps):
        assert ledger.claim(step, "train_loss")
        if step % 10 == 0:
            ledger.claim(step, "valid_loss")
        if place % 20_000 == 0:
            ledger = Ledger.load(ledger.dump())
    assert len(orjson.dumps(ledger.dump())) < 500
    assert not ledger.claim(steps[len(steps) // 2], "train_loss")


def test_steps_are_stored_once_when_metrics_share_them() -> None:
    ledger = Ledger()
    for step in (3, 7, 8, 20, 21, 40):
        for number in range(50):
            ledger.claim(step, f"metric_{number}")
    (group,) = ledger.dump()["groups"]
    assert len(group[0]) == 50


def test_irregular_steps_stay_exact_when_there_are_thousands() -> None:
    ledger = Ledger()
    steps = sorted({(n * n * 7919) % 1_000_003 for n in range(3000)})
    for step in steps:
        assert ledger.claim(step, "m")
    ledger = Ledger.load(ledger.dump())
    assert [step for step in steps if ledger.claim(step, "m")] == []


def test_names_are_kept_apart_when_they_differ_only_in_case() -> None:
    ledger = Ledger()
    assert ledger.claim_new(1, {"Reward": 1, "loss": 2}) == {"Reward": 1, "loss": 2}
    assert ledger.claim_new(1, {"loss": 2, "reward": 3}) == {"reward_2": 3}
    ledger = Ledger.load(ledger.dump())
    assert ledger.claim_new(1, {"reward": 3, "Reward": 1}) == {}
    values = {"REWARD": 4, "reward": 5, "Reward": 6}
    assert ledger.claim_new(2, values) == {"REWARD_3": 4, "reward_2": 5, "Reward": 6}
    assert ledger.count == 6
