"""What the benchmarks' jobs publish."""

import csv
import io

from dev.bench import data


def test_same_bytes_are_published_when_made_twice() -> None:
    assert data.metric_events("job", 30) == data.metric_events("job", 30)
    assert data.result_csv(30) == data.result_csv(30)


def test_events_are_newest_first_when_listed() -> None:
    events = data.metric_events("job", 12, 3)

    assert [event["data"]["step"] for event in events] == list(range(12, 2, -1))
    assert len({event["id"] for event in events}) == 10


def test_result_file_says_the_same_when_events_do() -> None:
    rows = list(csv.DictReader(io.StringIO(data.result_csv(20))))

    assert len(rows) == 20
    for row, event in zip(rows, reversed(data.metric_events("job", 20)), strict=True):
        values = event["data"]
        assert int(row["step"]) == values["step"]
        assert float(row["train_loss"]) == values["train_loss"]
        assert float(row["train_accuracy"]) == values["train_mean_token_accuracy"]
        assert bool(row["valid_loss"]) == ("valid_loss" in values)
        if row["valid_loss"]:
            assert float(row["valid_mean_token_accuracy"]) == values["valid_mean_token_accuracy"]


def test_every_source_is_counted_when_a_job_is_over() -> None:
    # Two values a step, two more every tenth step, two of each of three checkpoints.
    assert len(data.live_values(30)) == 30 * 2 + 3 * 2
    assert len(data.all_values(30)) == 30 * 2 + 3 * 2 + 3 * 2
