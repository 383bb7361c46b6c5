"""The harness itself can fail: what is missing, doubled or made up is named."""

import random

from dev.tools.chaos.jobs import story
from dev.tools.demo.values import compare, published


def test_story_publishes_all_of_its_values_when_it_is_over() -> None:
    for seed in range(40):
        told = story(random.Random(seed), "ftjob-x", 1.7e9, 10.0)
        _, last = told.puts[-1]
        text = last.get("result_csv", "").encode()
        assert published(last["events"], last.get("checkpoints", ()), text) == told.published
        times = [at for at, _ in told.puts]
        assert times == sorted(times)


def test_values_are_named_when_a_run_lacks_or_doubles_them() -> None:
    told = story(random.Random(3), "ftjob-x", 1.7e9, 10.0)
    history = [
        {"step": step, name: next(iter(values))} for (step, name), values in told.published.items()
    ]
    assert compare(told.published, history).exact
    assert len(compare(told.published, history[1:]).missing) == 1
    assert len(compare(told.published, [*history, history[0]]).duplicate) == 1
    assert len(compare(told.published, [*history, {"step": 999, "made_up": 1}]).unexpected) == 1
