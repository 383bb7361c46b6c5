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


def test_values_are_counted_when_ten_steps_are_published() -> None:
    rows = csv.DictReader(io.StringIO(data.result_csv(10)))
    values = sum(bool(text) for row in rows for name, text in row.items() if name != "step")

    assert values == 22
