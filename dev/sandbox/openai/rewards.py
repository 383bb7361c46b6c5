"""Believable metrics of reinforcement training: rewards, errors, token use and timing, nested.

Decides the numbers of a step. The shape is that of a published metric event of a real job.
Source: https://platform.openai.com/docs/guides/reinforcement-fine-tuning, section on training
metrics (stored copy, read 24 Nov 2026); the column names of the result file come from a public
analysis of one Azure job, no whole file is published.
"""

import math
import random
from typing import Any

from dev.sandbox.openai.job_request import Schedule

_ROLLOUTS = 8
"""Answers sampled per training row and step."""


class RewardCurve:
    """The metrics of one reinforcement job; validation happens every `eval_interval` steps."""

    signed: frozenset[str] = frozenset()

    def __init__(self, grader: dict[str, Any], plan: Schedule, rng: random.Random) -> None:
        self._graders = _leaves(grader)
        self._plan = plan
        self._rng = rng

    def data(self, step: int) -> dict[str, Any]:
        rng, plan = self._rng, self._plan
        settings = plan.hyperparameters
        validates = step % int(settings["eval_interval"]) == 0 or step == plan.total_steps
        learnt = 1 - math.exp(-3.0 * step / plan.total_steps)
        samples = int(settings["batch_size"]) * _ROLLOUTS
        evaluated = 20 * int(settings["eval_samples"])
        scores = [self._score(spec, learnt, validates) for spec in self._graders]
        train_reward = sum(s["train_reward_mean"] for s in scores) / len(scores)
        valid_reward = (
            sum(s["valid_reward_mean"] for s in scores) / len(scores) if validates else None
        )
        reasoning = rng.gauss(2400 + 900 * learnt, 150)
        valid_reasoning = rng.gauss(1900 + 700 * learnt, 80) if validates else None
        sampling, training = rng.uniform(180, 260), rng.uniform(350, 450)
        evaluating = rng.uniform(80, 120) if validates else 0.0
        data = {
            "step": step,
            "usage": {
                "graders": [
                    _usage(spec, samples, evaluated if validates else 0, rng)
                    for spec in self._graders
                    if "model" in spec
                ],
                "samples": {
                    "train_reasoning_tokens_mean": reasoning,
                    "valid_reasoning_tokens_mean": valid_reasoning,
                    "train_reasoning_tokens_count": round(reasoning * samples),
                    "valid_reasoning_tokens_count": (
                        None if valid_reasoning is None else round(valid_reasoning * evaluated)
                    ),
                },
            },
            "errors": {"graders": [_errors(spec, samples, learnt, rng) for spec in self._graders]},
            "scores": {
                "graders": scores,
                "train_reward_mean": train_reward,
                "valid_reward_mean": valid_reward,
            },
            "timing": {
                "step": {
                    "eval": evaluating,
                    "sampling": sampling,
                    "training": training,
                    "full_iteration": sampling + training + evaluating + rng.uniform(0.2, 2),
                },
                "graders": [
                    {
                        **_label(spec),
                        "train_execution_latency_mean": rng.uniform(0.5, 3),
                        "valid_execution_latency_mean": rng.uniform(0.5, 4) if validates else None,
                    }
                    for spec in self._graders
                ],
            },
            "total_steps": plan.total_steps,
            "train_mean_reward": train_reward,
            "reasoning_tokens_mean": reasoning,
            "completion_tokens_mean": reasoning + rng.uniform(30, 60),
            "mean_unresponsive_rewards": 0.0,
        }
        if validates:
            data["full_valid_mean_reward"] = valid_reward
            data["full_valid_mean_parse_error"] = 0.0
            data["valid_reasoning_tokens_mean"] = valid_reasoning
        return data

    def message(self, data: dict[str, Any]) -> str:
        said = f"Step {data['step']}/{data['total_steps']}"
        said += f", train mean reward={data['train_mean_reward']:.2f}"
        if "full_valid_mean_reward" in data:
            said += f", full validation mean reward={data['full_valid_mean_reward']:.2f}"
        return said

    def checkpoint(self, data: dict[str, Any]) -> dict[str, float | None]:
        # As published: the policy's loss, which is about 0, nulls, and no validation reward.
        samples = data["usage"]["samples"]
        return {
            "full_valid_loss": None,
            "full_valid_mean_token_accuracy": None,
            "step": float(data["step"]),
            "train_loss": self._rng.gauss(0.0, 0.003),
            "train_mean_token_accuracy": None,
            "valid_loss": None,
            "valid_mean_token_accuracy": None,
            "train_mean_reward": data["train_mean_reward"],
            "completion_tokens_mean": data["completion_tokens_mean"],
            **{
                f"usages/samples/{name}": samples[name]
                for name in ("train_reasoning_tokens_mean", "train_reasoning_tokens_count")
            },
        }

    def columns(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {
            name: (name,)
            for name in (
                "step",
                "train_mean_reward",
                "full_valid_mean_reward",
                "completion_tokens_mean",
                "mean_unresponsive_rewards",
                "reasoning_tokens_mean",
            )
        }
        for column, part in (
            ("sampling_duration", "sampling"),
            ("training_duration", "training"),
            ("eval_duration", "eval"),
            ("total_duration", "full_iteration"),
        ):
            found[column] = ("timing", "step", part)
        for place, spec in enumerate(self._graders):
            for metric in ("train_reward_mean", "valid_reward_mean"):
                column = f"scores/graders/{spec['type']}/{spec['name']}/{metric}"
                found[column] = ("scores", "graders", str(place), metric)
        return found

    def _score(self, spec: dict[str, Any], learnt: float, validates: bool) -> dict[str, Any]:
        def reward(middle: float, noise: float) -> float:
            return min(1.0, max(0.0, self._rng.gauss(middle, noise)))

        return {
            **_label(spec),
            "train_reward_mean": reward(0.35 + 0.45 * learnt, 0.06),
            "valid_reward_mean": reward(0.38 + 0.40 * learnt, 0.02) if validates else None,
        }


def _leaves(grader: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the graders of a job: those inside a multi-grader, or the single one."""
    inner = grader.get("graders")
    specs = list(inner.items()) if isinstance(inner, dict) and inner else [("grader", grader)]
    return [
        {"type": "score_model", **spec, "name": str(spec.get("name") or key)}
        for key, spec in specs
        if isinstance(spec, dict)
    ] or [{"type": "string_check", "name": "grader"}]


def _label(spec: dict[str, Any]) -> dict[str, str]:
    return {"name": spec["name"], "type": str(spec["type"])}


def _usage(
    spec: dict[str, Any], samples: int, evaluated: int, rng: random.Random
) -> dict[str, Any]:
    found: dict[str, Any] = {**_label(spec), "model": spec["model"]}
    for prefix, calls in (("train", samples), ("valid", evaluated)):
        for kind, mean in (("prompt", rng.uniform(220, 260)), ("completion", rng.gauss(139, 3))):
            found[f"{prefix}_{kind}_tokens_mean"] = mean if calls else None
            found[f"{prefix}_{kind}_tokens_count"] = round(mean * calls) if calls else None
    return found


def _errors(
    spec: dict[str, Any], samples: int, learnt: float, rng: random.Random
) -> dict[str, Any]:
    # Answers that the grader cannot read get rarer as the model learns the format.
    unread = sum(rng.random() < 0.08 * (1 - learnt) for _ in range(samples))
    found: dict[str, Any] = _label(spec)
    for name, count in (("other", 0), ("sample_parse", unread), ("invalid_variable", 0)):
        found[f"train_{name}_error_count"] = float(count)
        found[f"train_{name}_error_mean"] = count / samples
    return found
