"""Scenarios that are about what services do to their data: disorder, gaps, names, sizes."""

import random

from tests.e2e.relay.scenarios import (
    CHECKPOINTS,
    MADE,
    NOW,
    Scenario,
    event,
    events_of,
    make_job,
    result,
    said,
)


def quirks() -> list[Scenario]:
    """Return one job for each quirk of a source."""
    shuffled = [*events_of(), said("Job started", 500)]
    random.Random(7).shuffle(shuffled)
    tidy = [said("Job started", 500), *events_of()]
    wide = {f"metric_{n:05}": n / 7 for n in range(10_000)}
    recent = {"created_at": NOW - 600, "finished_at": NOW}
    return [
        Scenario(
            "base64-result",
            [
                {
                    "job": make_job(),
                    "events": events_of(last=3),
                    "result_csv": result(),
                    "result_encoding": "base64",
                }
            ],
        ),
        Scenario(
            "result-while-running",
            [
                {"job": make_job("running"), "events": events_of(last=5), "result_csv": result(5)},
                {"job": make_job(), "result_csv": result()},
            ],
        ),
        Scenario("result-only", [{"job": make_job(), "events": [], "result_csv": result()}]),
        Scenario("no-result-file", [{"job": make_job(), "events": tidy}]),
        Scenario(
            "null-result-files",
            [{"job": make_job(result_files=None, validation_file=None, seed=None), "events": tidy}],
        ),
        Scenario(
            "missing-result-file",
            [{"job": make_job(result_files=["file-gone"]), "events": tidy}],
            notes=("file-gone",),
        ),
        Scenario(
            "unordered-events",
            [
                {"job": make_job("running"), "events": shuffled[:9], "order": "given"},
                {"job": make_job(), "events": shuffled, "order": "given"},
            ],
        ),
        Scenario(
            "duplicate-events",
            [{"job": make_job(), "events": [*tidy, *tidy[3:9]], "order": "given", "page_size": 7}],
        ),
        Scenario(
            "oldest-first",
            [
                {"job": make_job("running"), "events": tidy[:8], "order": "given", "page_size": 4},
                {"job": make_job(), "events": tidy, "order": "given", "page_size": 4},
            ],
        ),
        Scenario(
            "small-pages",
            [{"job": make_job(), "events": tidy, "page_size": 3, "checkpoints": CHECKPOINTS}],
        ),
        Scenario(
            "late-events",
            [
                {"job": make_job(**recent), "events": events_of(last=6)},
                {"job": make_job(**recent), "events": events_of(last=9), "result_csv": result(12)},
            ],
        ),
        Scenario(
            "text-columns",
            [{"job": make_job(), "result_csv": result(extra='"a ""quoted"" answer, with commas"')}],
        ),
        Scenario(
            "placeholders",
            [{"job": make_job(), "events": events_of(last=2), "result_csv": result(gap="-1")}],
        ),
        Scenario(
            "old-vocabulary",
            [{"job": make_job(), "events": events_of(last=7), "result_csv": result(old=True)}],
        ),
        Scenario(
            "nan-values",
            [
                {
                    "job": make_job(),
                    "events": [
                        event(1, {"train_loss": 0.5}),
                        event(2, {"train_loss": None, "lr": 0.1}),
                    ],
                    "result_csv": "step,train_loss,lr\n1,0.5,nan\n2,NaN,0.1\n3,inf,0.2\n",
                }
            ],
        ),
        Scenario(
            "huge-numbers",
            [
                {
                    "job": make_job(trained_tokens=2**62),
                    "events": [
                        event(1, {"train_loss": 1.7e308, "tokens": 2**53 + 2}),
                        event(2**40, {"train_loss": 1e-300, "big": -1e300}, created_at=MADE + 900),
                    ],
                }
            ],
        ),
        Scenario(
            "unicode-names",
            [
                {
                    "job": make_job(suffix="größe-中文"),
                    "events": [event(1, {"größe/损失": 0.5, "🙂": 2}), said("Grüße, 世界 🙂", 500)],
                }
            ],
            display_name="größe-中文",
        ),
        Scenario(
            "ten-thousand-metrics",
            [{"job": make_job(), "events": [event(1, wide), event(2, {"metric_00001": 3.5})]}],
        ),
        Scenario(
            "steps-as-text",
            [
                {
                    "job": make_job(),
                    "events": [
                        event(1, {"step": "1", "train_loss": 0.5}),
                        event(2, {"step": 2.0, "train_loss": 0.25}),
                        event(3, {"step": "third", "train_loss": 0.125}),
                    ],
                    "result_csv": "step,train_loss\n3.0,0.1\n4,0.05\n",
                }
            ],
            notes=("no step to put them at",),
        ),
        Scenario(
            "unknown-status",
            [{"job": make_job("hibernating"), "events": tidy}],
            state="running",
            summary={"status": "hibernating"},
        ),
        Scenario(
            "paused-now",
            [{"job": make_job("running"), "events": tidy}, {"job": make_job("paused")}],
            state="running",
            tags=("paused",),
            summary={"status": "paused"},
        ),
        Scenario(
            "pending-now",
            [{"job": make_job("queued"), "events": [said("Job enqueued", 1)]}],
            state="pending",
        ),
        Scenario(
            "no-events-at-all",
            [{"job": make_job("cancelled")}],
            state="failed",
            tags=("cancelled",),
        ),
        Scenario(
            "developer-tier",
            [
                {"job": make_job("running", trainingType="developerTier"), "events": tidy[:5]},
                {"job": make_job(trainingType="developerTier"), "events": tidy},
            ],
            config={"training_type": "developerTier"},
        ),
        Scenario(
            "vision",
            [
                {
                    "job": make_job(
                        model="gpt-4o-2024-08-06",
                        hyperparameters={"n_epochs": -1, "image_detail": "low"},
                    ),
                    "events": tidy,
                    "result_csv": result(),
                }
            ],
            config={"model": "gpt-4o-2024-08-06"},
        ),
        Scenario(
            "tools",
            [{"job": make_job(method=None, hyperparameters={"n_epochs": 1}), "events": tidy}],
            config={"hyperparameters": {"n_epochs": 1}, "method": "supervised"},
        ),
        Scenario(
            "metadata",
            [
                {
                    "job": make_job(metadata={"wandb_tags": "blue, green", "owner": "me"}),
                    "events": tidy,
                }
            ],
            tags=("blue", "green"),
            config={"metadata": {"owner": "me"}},
        ),
        Scenario(
            "values-grow",
            [
                {"job": make_job("running"), "events": [event(1, {"train_loss": 0.5})]},
                {
                    "job": make_job("running"),
                    "events": [
                        event(1, {"train_loss": 0.5}),
                        {**event(1, {"valid_loss": 0.75}), "id": "ftevent-1b"},
                    ],
                },
                {
                    "job": make_job(),
                    "result_csv": "step,train_loss,valid_loss,lr\n1,0.5,0.75,0.001\n",
                },
            ],
        ),
    ]
