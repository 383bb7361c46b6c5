"""Queue messages, HTTP bodies and parameters, W&B's answers and table rows."""

from typing import Any

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from finetune_wandb.clients.http import Answer, error_code, error_for
from finetune_wandb.clients.storage.cursor_table import change_of, cursor_of
from finetune_wandb.clients.translate import retry_after
from finetune_wandb.model import work
from finetune_wandb.model.errors import AppError, NoticeError
from finetune_wandb.model.messages import read_message
from finetune_wandb.model.relay.cursor import Cursor, RunPath
from finetune_wandb.model.relay.job import reduce_job
from finetune_wandb.model.relay.redact import redacted
from finetune_wandb.model.settings import Settings, SettingsProblems, read_settings
from handlers.problem_details import RequestError
from handlers.resync import request_from_body
from handlers.status import read_query
from tests.fakes import setting_defaults
from tests.fuzz.inputs import any_json, bodies, damaged, fuzzed, raises_only
from tests.fuzz.test_fuzz_jobs import JOB

_GUID = "00000000-0000-0000-0000-000000000001"
_ACCOUNT = (
    f"/subscriptions/{_GUID}/resourceGroups/rg/providers/Microsoft.CognitiveServices/accounts/a"
)
RECONCILE = {
    "kind": "account",
    "account": _ACCOUNT,
    "trigger": "drift",
    "sent_at": 1764000000.5,
    "attempt": 2,
}
KEY = {"kind": "key", "vault": "kv-main.vault.azure.net", "secret": "wandb-api-key"}
RELAY = {"account": _ACCOUNT, "jobs": [{"id": "ftjob-1"}], "trigger": "timer", "sent_at": 1.0}
ARTIFACTS = {"account": _ACCOUNT, "jobs": ["ftjob-1"], "attempt": 1}
RESYNC = {
    "scope": "job",
    "account": _ACCOUNT,
    "job": "ftjob-1",
    "parts": ["jobs"],
    "mode": "apply",
    "since": "2026-01-31",
    "force": True,
}


@fuzzed
@given(bodies(RECONCILE, KEY))
@example(b'{"kind":"requeue","attempt":1e400}')
@example(b'{"kind":"requeue","attempt":123456789012345678901234567890}')
def test_message_or_documented_error_when_reconcile_work_is_damaged(body: bytes) -> None:
    message = raises_only(NoticeError, lambda: read_message(work.RECONCILE, body))
    if message is not None:
        assert read_message(work.RECONCILE, message.to_json()) == message


@fuzzed
@given(bodies(RELAY, {**RELAY, "jobs": [JOB]}))
def test_message_or_documented_error_when_relay_work_is_damaged(body: bytes) -> None:
    message = raises_only(NoticeError, lambda: read_message(work.RELAY, body))
    for raw in message.jobs if message else ():
        reduce_job(raw)


@fuzzed
@given(bodies(ARTIFACTS))
def test_message_or_documented_error_when_artifact_work_is_damaged(body: bytes) -> None:
    raises_only(NoticeError, lambda: read_message(work.ARTIFACTS, body))


@fuzzed
@given(st.one_of(damaged(RESYNC, {}), any_json))
@example({"since": "0001-01-01T00:00:00+23:59"})
@example({"since": "9999-12-31T23:59:59-23:59"})
@example({"since": "0001-01-01"})
def test_request_or_documented_error_when_a_resync_body_is_damaged(body: Any) -> None:
    found = raises_only(RequestError, lambda: request_from_body(body, subscriptions=(_GUID,)))
    if found is not None and found.account:
        assert _GUID in found.account


@fuzzed
@given(
    st.dictionaries(
        st.sampled_from(("account", "job", "unhealthy", "page", "limit", "code", "x")),
        st.one_of(st.text(max_size=12), st.integers().map(str)),
    )
)
def test_query_or_documented_error_when_parameters_are_anything(params: dict[str, str]) -> None:
    found = raises_only(RequestError, lambda: read_query(params))
    if found is not None:
        found.cut([1, 2, 3])
        assert found.pages(0, 7) >= 1


@fuzzed
@given(
    st.dictionaries(
        st.sampled_from(list(setting_defaults())),
        st.one_of(
            st.text(max_size=30),
            st.sampled_from(
                (_GUID, "https://kv.vault.azure.net", "https://[::1", "all", "full", "1e999")
            ),
        ),
    )
)
def test_settings_or_their_problems_when_values_are_anything(source: dict[str, str]) -> None:
    found = raises_only(SettingsProblems, lambda: read_settings(source))
    assert found is None or isinstance(found, Settings)


@fuzzed
@given(
    bodies({"error": {"code": "c", "message": "m"}}, {"errors": [{"message": "m"}]}),
    st.integers(300, 599),
    st.dictionaries(
        st.sampled_from(("retry-after", "retry-after-ms", "ratelimit-reset")),
        st.one_of(st.text(max_size=20), st.floats().map(str)),
    ),
)
def test_error_is_ours_when_a_service_answers_anything(
    body: bytes, status: int, headers: dict[str, str]
) -> None:
    answer = Answer(status, headers, body)
    error = error_for(answer, "a service", "subject")
    assert isinstance(error, AppError)
    assert len(error.message) < 200
    assert error_code(answer) in (error.code, "") or status in (401, 403) or 300 <= status < 400
    pause = retry_after(answer.headers)
    assert pause is None or 0 <= pause < float("inf")


@fuzzed
@given(st.text(max_size=300))
def test_text_stays_text_when_credentials_are_taken_out(text: str) -> None:
    assert redacted(redacted(text)) == redacted(redacted(redacted(text)))


_NAMES = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="/"), min_size=1, max_size=20
)
_STATES = any_json.filter(lambda value: _is_plain(value))
_BODIES = st.one_of(
    st.just(b""),
    # A request to W&B is a JSON object, of up to a megabyte.
    st.builds(
        lambda data, times: b"{" + data * times, st.binary(max_size=500), st.integers(1, 400)
    ),
)


def _is_plain(value: Any) -> bool:
    try:
        return bool(orjson.loads(orjson.dumps(value)) == value)
    except (orjson.JSONEncodeError, orjson.JSONDecodeError):
        return False


@fuzzed
@given(
    job=_NAMES,
    run=st.one_of(st.none(), st.builds(RunPath, _NAMES, _NAMES, _NAMES)),
    rows=st.integers(0, 2**40),
    error=st.text(st.characters(blacklist_categories=["Cs"]), max_size=50),
    state=st.dictionaries(_NAMES, _STATES, max_size=3),
    outbox=_BODIES,
    more=st.dictionaries(_NAMES, st.text(max_size=5), max_size=2),
)
def test_cursor_comes_back_when_it_was_stored_as_a_row(
    job: str,
    run: RunPath | None,
    rows: int,
    error: str,
    state: dict[str, Any],
    outbox: bytes,
    more: dict[str, str],
) -> None:
    cursor = Cursor("/subscriptions/s", job, run=run, rows=rows, error=error, state=state)
    cursor.outbox = outbox
    row = orjson.loads(change_of(cursor)[0].body)
    info = orjson.loads(row["info"])
    # A later release may have written fields that this one does not know.
    row["info"] = orjson.dumps({f"later-{name}": value for name, value in more.items()} | info)
    assert cursor_of("/subscriptions/s", row, "") == cursor
