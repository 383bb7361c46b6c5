"""The settings files: which one counts, and what is refused."""

from pathlib import Path

import pytest

from dev.devhost import config
from dev.devhost.config import ConfigError


def test_local_settings_replace_the_sample_when_present(tmp_path: Path) -> None:
    (tmp_path / config.FILES[1]).write_text('{"Values": {"A": "sample", "B": "sample"}}')
    (tmp_path / config.FILES[0]).write_text(
        '{"Values": {"A": "own"}, "Host": {"LocalHttpPort": 7073}}'
    )
    local = config.read_settings(tmp_path)
    environ = {"C": "env"}
    config.apply_settings(local, environ)
    assert environ == {"A": "own", "C": "env"}
    assert local.http_port == 7073


@pytest.mark.parametrize(
    "text", ['{"Values": {"A": 1}}', "[]", "nope", '{"IsEncrypted": true, "Values": {}}']
)
def test_settings_file_is_refused_when_malformed(tmp_path: Path, text: str) -> None:
    (tmp_path / config.FILES[0]).write_text(text)
    with pytest.raises(ConfigError, match=r"local\.settings\.json"):
        config.read_settings(tmp_path)
