"""Settings: defaults, everything wrong named at once, nothing of a value repeated."""

import copy
import json
import logging
import pickle
import traceback
from typing import Any

import orjson
import pytest
import wandb

from finetune_wandb.model.secret import Secret
from finetune_wandb.model.settings import SettingsProblems, read_settings
from tests.fakes import setting_defaults as defaults

GIVEN = {
    "AZURE_SUBSCRIPTION_IDS": "11111111-1111-4111-8111-111111111111",
    "KEY_VAULT_URL": "https://kv-main.vault.azure.net/",
}
PASTED = "wandb_v1_" + "s" * 60


def test_default_is_the_pinned_sdks_own_when_no_wandb_is_named() -> None:
    assert defaults()["WANDB_BASE_URL"] == wandb.Settings().base_url


def test_defaults_are_used_when_only_what_must_be_given_is_given() -> None:
    settings = read_settings(GIVEN | {"WANDB_PROJECT": "  ", "APPLY_MODE": ""})
    assert settings.wandb_project == defaults()["WANDB_PROJECT"]
    assert settings.apply_mode == "full"
    assert settings.allowed_vaults == ("kv-main",)
    assert settings.allowed_secrets == ("wandb-api-key",)
    assert str(settings.default_secret) == "kv-main.vault.azure.net/secrets/wandb-api-key"


def test_what_every_account_uses_is_allowed_when_only_others_are_named() -> None:
    more = {"ALLOWED_VAULTS": "KV-Team, kv-main", "ALLOWED_SECRETS": "Team-Key"}
    settings = read_settings(GIVEN | more)
    assert settings.allowed_vaults == ("kv-main", "kv-team")
    assert settings.allowed_secrets == ("wandb-api-key", "team-key")


def test_sandbox_is_refused_when_the_app_runs_in_azure() -> None:
    sandbox = {"SANDBOX_URL": "http://127.0.0.1:7700"}
    assert read_settings(GIVEN | sandbox).sandbox_url == "http://127.0.0.1:7700"
    with pytest.raises(SettingsProblems) as caught:
        read_settings(GIVEN | sandbox | {"WEBSITE_SITE_NAME": "func-x"})
    assert [problem.subject for problem in caught.value.problems] == ["SANDBOX_URL"]
    assert "remove SANDBOX_URL" in caught.value.remedy


@pytest.mark.parametrize("name", ["https://kv-team.vault.azure.net", "kv_team", "kv", "kv-"])
def test_allowed_vault_is_refused_when_it_is_no_vault_name(name: str) -> None:
    with pytest.raises(SettingsProblems) as caught:
        read_settings(GIVEN | {"ALLOWED_VAULTS": f"kv-main, {name}"})
    assert [problem.subject for problem in caught.value.problems] == ["ALLOWED_VAULTS"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WANDB_ENTITY", "team/project"),
        ("WANDB_ENTITY", "a b"),
        ("WANDB_ENTITY", ".."),
        ("WANDB_ENTITY", "x" * 129),
        ("WANDB_PROJECT", ".."),
        ("WANDB_PROJECT", "a\tb"),
        ("WANDB_PROJECT", "team/project"),
    ],
)
def test_place_in_w_and_b_is_refused_when_no_account_could_use_it(name: str, value: str) -> None:
    with pytest.raises(SettingsProblems) as caught:
        read_settings(GIVEN | {name: value})
    assert [problem.subject for problem in caught.value.problems] == [name]


@pytest.mark.parametrize(
    "name", ["ROTATION_BEFORE_DAYS", "ROTATION_LIFETIME_DAYS", "ROTATION_GRACE_HOURS"]
)
def test_time_is_refused_when_no_date_lies_that_far_off(name: str) -> None:
    with pytest.raises(SettingsProblems) as caught:
        read_settings(GIVEN | {name: "1e10"})
    assert [problem.subject for problem in caught.value.problems] == [name]


@pytest.mark.parametrize(
    ("more", "is_refused"),
    [
        ({}, False),
        # 90 days, and the next key is made 14 days before their end.
        ({"ROTATION_GRACE_HOURS": "1823"}, False),
        ({"ROTATION_GRACE_HOURS": "1824"}, True),
        ({"ROTATION_GRACE_HOURS": "1824", "ROTATION": "off"}, False),
        ({"ROTATION_GRACE_HOURS": "72", "ROTATION_LIFETIME_DAYS": "6"}, True),
    ],
)
def test_grace_is_refused_when_no_old_key_could_ever_be_deleted(
    more: dict[str, str], is_refused: bool
) -> None:
    given = GIVEN | {"ROTATION": "mint"} | more
    if not is_refused:
        assert read_settings(given)
        return
    with pytest.raises(SettingsProblems) as caught:
        read_settings(given)
    assert [problem.subject for problem in caught.value.problems] == ["ROTATION_GRACE_HOURS"]


def test_every_wrong_setting_is_named_when_there_are_several() -> None:
    wrong = {
        "AZURE_SUBSCRIPTION_IDS": PASTED,
        "KEY_VAULT_URL": PASTED,
        "WANDB_SECRET_NAME": f"{PASTED}/x",
        "WANDB_BASE_URL": f"http://{PASTED}.com",
        "WANDB_PROJECT": f"{PASTED}/x",
        "APPLY_MODE": PASTED,
        "NATIVE_JOBS": PASTED,
        "NOTIFY_TOPIC_ENDPOINT": PASTED,
    }
    with pytest.raises(SettingsProblems) as caught:
        read_settings(wrong)
    assert {problem.subject for problem in caught.value.problems} == set(wrong)
    assert all(problem.remedy for problem in caught.value.problems)
    shown = f"{caught.value} {caught.value.remedy} {caught.value!r} {caught.value.subject}"
    assert PASTED not in shown, "what was pasted into the wrong field may be a secret"


def test_missing_settings_are_named_when_nothing_is_given() -> None:
    with pytest.raises(SettingsProblems) as caught:
        read_settings({})
    assert [one.subject for one in caught.value.problems] == list(GIVEN)


@pytest.mark.parametrize(
    "url",
    [
        "http://api.wandb.ai",
        "https://user@api.wandb.ai",
        "https://user:pass@api.wandb.ai",
        "ftp://api.wandb.ai",
        "api.wandb.ai",
        "https://",
        "javascript:alert(1)",
        "http://127.0.0.1.evil.com",
        "http://localhost@evil.com",
        "https://[::1",
        "https://api.wandb.ai?x=1",
        "https://api.wandb.ai/#x",
        "https://api.wandb.ai:https",
        "https://api.wandb.ai:99999",
        "https://api wandb.ai",
    ],
)
def test_wandb_address_is_refused_when_a_key_would_be_unsafe_there(url: str) -> None:
    with pytest.raises(SettingsProblems) as caught:
        read_settings(GIVEN | {"WANDB_BASE_URL": url})
    assert caught.value.subject == "WANDB_BASE_URL"


@pytest.mark.parametrize(
    "url",
    [
        "http://kv-main.vault.azure.net",
        "https://kv-main.vault.azure.net.evil.com",
        "https://evil.com/https://kv-main.vault.azure.net",
        "https://kv-main.vault.azure.net@evil.com",
        "https://user@kv-main.vault.azure.net",
        "https://kv-main.vault.azure.net:8443",
        "https://evil.com#.vault.azure.net",
        "https://evil.com\\.vault.azure.net",
        "https://a.b.vault.azure.net",
        "https://-.vault.azure.net",
        "https://kv-main.vault.azure.net" + "x" * 3000,
    ],
    ids=lambda url: url[:60],
)
def test_vault_is_refused_when_its_address_is_not_key_vaults(url: str) -> None:
    with pytest.raises(SettingsProblems) as caught:
        read_settings(GIVEN | {"KEY_VAULT_URL": url})
    assert caught.value.subject == "KEY_VAULT_URL"


def test_every_setting_has_a_default_or_must_be_given() -> None:
    assert [name for name, value in defaults().items() if value is None] == list(GIVEN)
    read_settings({name: value or "" for name, value in defaults().items()} | GIVEN)


class TestSecret:
    """The masked type."""

    secret = Secret(PASTED)

    @pytest.mark.parametrize(
        "shown",
        [
            lambda secret: repr(secret),
            lambda secret: str(secret),
            lambda secret: f"{secret} {secret!r} {secret!s} {secret:>40}",
            lambda secret: "%s %r" % (secret, secret),  # noqa: UP031
            lambda secret: "{} {!a}".format(secret, secret),  # noqa: UP032
            lambda secret: repr([secret, {"key": secret}]),
            lambda secret: repr(secret.__reduce_ex__.__doc__),
        ],
        ids=["repr", "str", "f-string", "percent", "format", "nested", "doc"],
    )
    def test_value_is_masked_when_it_is_shown(self, shown: Any) -> None:
        assert PASTED[-20:] not in shown(self.secret)

    @pytest.mark.parametrize("write", [pickle.dumps, copy.deepcopy, json.dumps, orjson.dumps])
    def test_value_cannot_be_written_when_somebody_tries(self, write: Any) -> None:
        with pytest.raises(TypeError) as caught:
            write(self.secret)
        assert PASTED not in "".join(traceback.format_exception(caught.value))

    def test_value_is_not_in_the_log_when_it_is_logged(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        try:
            raise ValueError(self.secret)
        except ValueError:
            logging.getLogger("test").exception("bad %s %r", self.secret, [self.secret])
        assert PASTED not in caplog.text
        assert "Secret(***)" in caplog.text

    def test_value_is_revealed_only_when_it_is_asked_for(self) -> None:
        assert self.secret.reveal() == PASTED
        assert not hasattr(self.secret, "__dict__")
        assert self.secret == Secret(PASTED)
        assert self.secret != PASTED
        assert self.secret != Secret(PASTED + "x")


@pytest.mark.parametrize(
    "price", ["NaN", "Infinity", "-1", "1e400", "1" + "0" * 400, "true", '"5"']
)
def test_price_is_refused_when_nothing_can_cost_it(price: str) -> None:
    """A cost that is no number would fail every pass of the jobs that it is for."""
    with pytest.raises(SettingsProblems) as caught:
        read_settings(GIVEN | {"PRICES": f'{{"gpt-4.1": {{"usd_per_hour": {price}}}}}'})
    assert [problem.subject for problem in caught.value.problems] == ["PRICES"]


def test_price_is_taken_when_it_is_nothing_or_much() -> None:
    prices = '{"GPT-4.1": {"usd_per_hour": 0, "usd_per_1k_tokens": 100000}}'
    assert read_settings(GIVEN | {"PRICES": prices}).prices == {
        "gpt-4.1": {"usd_per_hour": 0, "usd_per_1k_tokens": 100000}
    }
