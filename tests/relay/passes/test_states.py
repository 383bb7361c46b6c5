"""The table of transitions: complete, and followed."""

import pytest

from finetune_wandb.model.relay.state import CLOSED, TRANSITIONS, Happened, RelayState


def test_every_state_has_its_row() -> None:
    assert set(TRANSITIONS) == set(RelayState)
    assert {happened for row in TRANSITIONS.values() for happened in row} == set(Happened)


def test_every_state_can_be_reached_and_left() -> None:
    reached = {RelayState.NEW}
    for _ in RelayState:
        reached |= {state for one in reached for state in TRANSITIONS[one].values()}
    assert reached == set(RelayState)
    assert all(set(row.values()) - {state} for state, row in TRANSITIONS.items())


def test_a_closed_job_goes_on_only_when_someone_asks() -> None:
    assert TRANSITIONS[RelayState.COMPLETE][Happened.ENDED] == RelayState.ENDING
    assert RelayState.DETACHED not in CLOSED, "a job that is listed again goes on"


@pytest.mark.parametrize("state", [RelayState.ENDING, RelayState.COMPLETE])
def test_what_is_gone_cannot_reopen_a_run_that_has_its_end(state: RelayState) -> None:
    assert TRANSITIONS[state][Happened.GONE] == RelayState.COMPLETE


def test_live_job_is_never_complete_without_an_end() -> None:
    assert Happened.SETTLED not in TRANSITIONS[RelayState.LIVE]
