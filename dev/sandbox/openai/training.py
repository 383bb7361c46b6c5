"""One simulated fine-tuning job: what it publishes, in which order, and how long each part takes.

Decides the story: validation, queue, steps, checkpoints, postprocessing, and what cancel, pause
and resume do to it. The simulator drives the clock; curves make the numbers.
"""

import random
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from dev.sandbox.openai import files, job_view
from dev.sandbox.openai.curves import Curve, curve_for
from dev.sandbox.openai.job_request import JobRequest, Schedule, schedule
from dev.sandbox.openai.job_store import TERMINAL, AccountJobs, StoredFile, StoredJob, new_id
from dev.sandbox.openai.pages import Pages
from dev.sandbox.openai.simulator_settings import SimulatorSettings
from dev.sandbox.openai.wire import invalid

_CHECKPOINTS_KEPT = 3
_BYTES_PER_TOKEN = 4
_BILLED_PER_TRAINED = 1.305
"""Published jobs were billed for 10,440 tokens where `trained_tokens` says 8,000."""


class Training:
    """A job in progress. `due` is when it next has something to do, in unix seconds."""

    def __init__(
        self,
        account: AccountJobs,
        request: JobRequest,
        rng: random.Random,
        settings: Callable[[], SimulatorSettings],
        now: float,
    ) -> None:
        self._account = account
        self._request = request
        self._settings = settings
        self._clock = now
        identifier = new_id("ftjob")
        self.job: StoredJob = account.add(identifier)
        seed = rng.randrange(2**31) if request.seed is None else request.seed
        # A seed that was asked for makes the run repeatable whatever ran before it.
        self._rng = random.Random(f"{settings().seed}/{seed}")
        self._content = account.files[request.training_file].content
        self._files = [request.training_file]
        if request.validation_file is not None:
            self._files.append(request.validation_file)
        self._problem = self._find_problem()
        rows = sum(1 for line in self._content.splitlines() if line.strip())
        self._plan: Schedule = schedule(request, max(rows, 1), settings().max_steps)
        self._curve: Curve = curve_for(request, self._plan, self._rng)
        self._steps: list[dict[str, Any]] = []
        self._marks: list[dict[str, Any]] = []
        self._second, self._in_second = 0, 0
        self._state: dict[str, Any] = {
            "id": identifier,
            "created_at": int(now),
            "status": "validating_files",
            "seed": seed,
            "hyperparameters": None,
            "error": None,
            "fine_tuned_model": None,
            "finished_at": None,
            "result_files": None,
            "trained_tokens": None,
            "estimated_finish": self._estimate(now),
        }
        self._show()
        self._story: Iterator[float] = self._tell()
        self.due = now
        self._left: float | None = None
        self.advance(now)

    @property
    def status(self) -> str:
        return str(self._state["status"])

    @property
    def ended(self) -> bool:
        return self.status in TERMINAL

    @property
    def asleep(self) -> bool:
        """Whether nothing will happen until somebody calls."""
        return self.ended or self.status == "paused"

    def advance(self, now: float) -> None:
        """Publish all that is due by `now`, dated by when it was due."""
        while not self.asleep and self.due <= now:
            self._clock = self.due
            if self.status == "resuming":
                self._to("running")
                self.due += self._left or 0.0
                continue
            wait = next(self._story, None)
            if wait is None:
                break
            self.due += wait

    def cancel(self, now: float) -> None:
        """End the job early. Raises Refused when it has ended already."""
        self.advance(now)
        if self.ended:
            raise invalid(f"The job has already {self.status}.")
        self._clock = now
        self._say("Job cancelled.")
        self._to("cancelled", finished_at=int(now), estimated_finish=None)

    def pause(self, now: float) -> None:
        """Stop after the current step, with a checkpoint. Raises Refused unless it is running."""
        self.advance(now)
        if self.status != "running":
            raise invalid(f"Only a running job can be paused; this one is {self.status}.")
        self._clock = now
        self._left = max(0.0, self.due - now)
        if self._steps:
            self._mark(self._steps[-1], last=False)
        self._say("Job paused.")
        self._to("paused", estimated_finish=None)

    def resume(self, now: float) -> None:
        """Go on with a paused job, through the queue. Raises Refused unless it is paused."""
        if self.status != "paused":
            raise invalid(f"Only a paused job can be resumed; this one is {self.status}.")
        self._clock = now
        self._say("Job resumed.")
        self.due = now + self._settings().queue_seconds / 2
        self._to("resuming", estimated_finish=self._estimate(now))

    def _tell(self) -> Iterator[float]:
        """Play the job, yielding the seconds until the next part."""
        self._say(f"Created fine-tuning job: {self.job.id}")
        self._say(f"Validating training file: {' and validation file: '.join(self._files)}")
        yield self._settings().queue_seconds / 2
        if self._problem is not None:
            self._fail(self._problem)
            return
        self._to("queued")
        self._say("Job enqueued. Waiting for jobs ahead to complete.")
        yield self._settings().queue_seconds / 2
        self._to("running", hyperparameters=self._plan.hyperparameters)
        self._say("Job started.")
        self._say("Training started.")
        for step in range(1, self._plan.total_steps + 1):
            yield self._settings().seconds_per_step
            self._step(step)
        yield self._settings().finish_seconds / 2
        self._say("Job succeeded.")
        self._say("Postprocessing started.")
        self._say("Model Evaluation Passed.")
        yield self._settings().finish_seconds / 2
        self._finish()

    def _step(self, step: int) -> None:
        data = self._curve.data(step)
        self._steps.append(data)
        self._say(self._curve.message(data), data)
        if step % self._plan.steps_per_epoch == 0:
            self._mark(data, last=step == self._plan.total_steps)

    def _mark(self, data: dict[str, Any], last: bool) -> None:
        """Make a checkpoint of the model as it is after this step; the oldest ones go."""
        step = data["step"]
        if any(mark["step_number"] == step for mark in self._marks):
            return
        name = self._model_name()
        self._marks.append(
            {
                "id": new_id("ftchkpt"),
                "created_at": int(self._clock),
                # The last checkpoint is the fine-tuned model itself.
                "fine_tuned_model_checkpoint": name if last else f"{name}:ckpt-step-{step}",
                "fine_tuning_job_id": self.job.id,
                "metrics": self._curve.checkpoint(data),
                "object": "fine_tuning.job.checkpoint",
                "step_number": step,
            }
        )
        del self._marks[:-_CHECKPOINTS_KEPT]
        self.job.checkpoints = Pages.newest_first(reversed(self._marks))

    def _finish(self) -> None:
        settings = self._settings()
        text = files.write(
            self._curve.columns(),
            self._steps,
            minus_one=settings.result_placeholder == "-1",
            signed=self._curve.signed,
        )
        stored = StoredFile(
            id=new_id("file"),
            filename=files.FILENAME,
            purpose="fine-tune-results",
            content=files.encode(text, settings.result_encoding),
            created_at=int(self._clock),
        )
        self._account.files[stored.id] = stored
        self._say(f"Completed results file: {stored.id}")
        tokens = len(self._content) // _BYTES_PER_TOKEN * self._plan.hyperparameters["n_epochs"]
        if self._request.method == "reinforcement":
            hours = (self._clock - self._state["created_at"]) / 3600
            self._say(f"Training hours billed: {hours:.3f}")
        else:
            self._say(f"Training tokens billed: {round(tokens * _BILLED_PER_TRAINED)}")
        self._to(
            "succeeded",
            finished_at=int(self._clock),
            estimated_finish=None,
            fine_tuned_model=self._model_name(),
            result_files=[stored.id],
            trained_tokens=tokens,
        )

    def _fail(self, problem: str) -> None:
        said = f"Training data validation failed. {problem}"
        self._say(said, level="error")
        self._to(
            "failed",
            finished_at=int(self._clock),
            estimated_finish=None,
            result_files=[],
            error={
                "code": "400",
                "message": said,
                "param": "training_file",
            },
        )

    def _find_problem(self) -> str | None:
        """Return why the training file cannot be used, or None."""
        rows = 0
        for number, line in enumerate(self._content.splitlines(), start=1):
            if not line.strip():
                continue
            rows += 1
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError:
                row = None
            if not isinstance(row, dict):
                return f"The training file is invalid: line {number} is not a JSON object."
        return None if rows else "The training file is invalid: it has no examples."

    def _model_name(self) -> str:
        name = f"{self._request.model}.ft-{self.job.id.removeprefix('ftjob-')}"
        return name if self._request.suffix is None else f"{name}-{self._request.suffix}"

    def _estimate(self, now: float) -> int:
        settings = self._settings()
        steps = self._plan.total_steps - len(self._steps)
        wait = settings.queue_seconds + settings.finish_seconds
        return int(now + wait + steps * settings.seconds_per_step)

    def _say(self, message: str, data: dict[str, Any] | None = None, level: str = "info") -> None:
        event = {
            "id": new_id("ftevent"),
            "created_at": int(self._clock),
            "level": level,
            "message": message,
            "object": "fine_tuning.job.event",
            "type": "message" if data is None else "metrics",
        }
        if data is not None:
            event["data"] = data
        if event["created_at"] != self._second:
            self._second, self._in_second = event["created_at"], 0
        newer = self._in_second if self._settings().ties == "written" else 0
        self.job.events.append(event, newer=newer)
        self._in_second += 1

    def _to(self, status: str, **changes: Any) -> None:
        self._state |= {"status": status, **changes}
        self._show()

    def _show(self) -> None:
        request, state = self._request, self._state
        self._account.show(
            self.job, job_view.v1(request, state), dated=job_view.dated(request, state)
        )
