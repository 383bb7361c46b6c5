"""Modules that are asked line by line."""

import contextlib
import io
import os
import time
from pathlib import Path

import pytest

from dev.tools.lines import answers, isolate_wandb, lines, questions


async def test_end_of_the_log_is_in_the_error_when_the_process_ends(tmp_path: Path) -> None:
    async with lines("dev.bench.floor", str(tmp_path / "missing"), log=tmp_path / "log") as dead:
        with pytest.raises(RuntimeError, match="No such file"):
            await dead.ask("go")


async def test_asking_ends_when_there_is_no_answer_in_time(tmp_path: Path) -> None:
    async with lines(
        "timeit", "-n1", "-r1", "import time; time.sleep(2)", log=tmp_path / "log"
    ) as slow:
        began = time.monotonic()
        with pytest.raises(RuntimeError, match="no answer"):
            await slow.ask("go", seconds=0.05)

        assert time.monotonic() - began < 2


def test_only_answers_are_on_standard_output_when_a_module_prints(
    capfd: pytest.CaptureFixture[str],
) -> None:
    own = os.dup(1)
    try:
        with answers() as stream:
            os.write(1, b"noise\n")
            print("an answer", file=stream)
    finally:
        os.dup2(own, 1)
        os.close(own)

    out, noise = capfd.readouterr()
    assert (out, noise) == ("an answer\n", "noise\n")


def test_questions_end_when_standard_input_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"a": 1}\n"b"\n'))

    assert list(questions()) == [{"a": 1}, "b"]


def test_own_key_is_not_used_when_wandb_is_isolated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as own, contextlib.ExitStack() as after:
        before = dict(os.environ)
        after.callback(lambda: (os.environ.clear(), os.environ.update(before)))
        own.setenv("WANDB_API_KEY", "own")

        isolate_wandb(str(tmp_path), {"WANDB_BASE_URL": "http://w"})

        assert "WANDB_API_KEY" not in os.environ
        assert os.environ["WANDB_BASE_URL"] == "http://w"
        assert os.environ["WANDB_DIR"] == str(tmp_path)
