"""Following the host's log."""

from pathlib import Path

import pytest

from dev.bench.watch import HostLog

TICK = "INFO handlers.relay_timer: tick: 2 accounts, 9 jobs listed, 3 messages, 0 accounts failed\n"
DONE = "INFO devhost.invoke: relay_jobs 1-2 succeeded in 5 ms\n"


def _log(tmp_path: Path, text: str = "") -> Path:
    path = tmp_path / "host.log"
    path.write_text(text)
    return path


def _append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_only_new_lines_count_when_the_log_has_old_ones(tmp_path: Path) -> None:
    path = _log(tmp_path, TICK)
    log = HostLog(path)
    with pytest.raises(ValueError, match="no tick"):
        log.messages_sent()

    _append(path, TICK)

    assert log.messages_sent() == 3


async def test_waiting_ends_when_enough_lines_match(tmp_path: Path) -> None:
    path = _log(tmp_path)
    log = HostLog(path)
    _append(path, DONE * 2)

    await log.wait(r"relay_jobs \S+ succeeded", 2, seconds=5)


async def test_waiting_fails_with_the_log_when_lines_are_missing(tmp_path: Path) -> None:
    path = _log(tmp_path)
    log = HostLog(path)
    _append(path, DONE)

    with pytest.raises(TimeoutError, match="relay_jobs 1-2 succeeded"):
        await log.wait(r"relay_jobs \S+ succeeded", 2, seconds=0.05)
