"""Answers of W&B, the fine-tuning API and Table storage: whatever is in a body that says 200.

The readers are called as the clients' retries call them; through a server each broken body
would cost its retries' pauses.
"""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from finetune_wandb.clients.azure import jobs
from finetune_wandb.clients.http import Answer, error_for
from finetune_wandb.clients.storage import tables
from finetune_wandb.clients.wandb import api, keys
from finetune_wandb.clients.wandb import sink as wandb_sink
from finetune_wandb.model.errors import AppError
from finetune_wandb.model.relay.cursor import RunPath
from finetune_wandb.model.relay.ports import EnsuredRun
from tests.fuzz.inputs import bodies, fuzzed, raises_only

RUN = RunPath("entity", "project", "run")
UPSERT = {
    "data": {
        "upsertBucket": {
            "bucket": {"id": "x", "name": "run", "project": {"name": "p", "entity": {"name": "e"}}},
            "inserted": True,
        }
    }
}
REFUSED = {"data": None, "errors": [{"message": "permission denied", "extensions": {"code": "c"}}]}
VIEWER = {
    "data": {"viewer": {"id": "u", "entity": "e", "teams": {"edges": [{"node": {"name": "t"}}]}}}
}
STREAM = {"exitcode": None, "limits": {}, "stopped": False}
LISTING = {"object": "list", "data": [{"id": "ftjob-1"}], "has_more": False}
ROWS = {"value": [{"PartitionKey": "p", "RowKey": "r", "odata.etag": "e"}]}
BATCH = (
    b"--batchresponse_1\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n"
    b'Content-Type: application/http\r\n\r\nHTTP/1.1 204 No Content\r\nETag: W/"1"\r\n\r\n--c--\r\n'
)


@fuzzed
@given(bodies(UPSERT, REFUSED))
def test_run_or_our_error_when_wandb_answers_anything_to_an_upsert(body: bytes) -> None:
    found = raises_only(
        AppError, lambda: wandb_sink._ensured(api._data(Answer(200, {}, body), "r"), RUN)
    )
    assert found is None or isinstance(found, EnsuredRun)


@fuzzed
@given(bodies(STREAM))
def test_rows_count_as_taken_when_wandb_answers_anything_with_200(body: bytes) -> None:
    assert wandb_sink._stopped(Answer(200, {}, body)) in (True, False)


@fuzzed
@given(bodies(VIEWER, REFUSED), st.sampled_from((200, 200, 400, 401, 403, 404, 429, 500)))
def test_owner_or_our_error_when_wandb_answers_anything_about_a_key(
    body: bytes, status: int
) -> None:
    def owner() -> Any:
        answer = Answer(status, {}, body)
        if status != 200:
            raise api._explain(api._OF_GRAPHQL, answer, "w") or error_for(answer, "W&B", "w")
        return keys._owner(api._data(answer, "w"), "w")

    found = raises_only(AppError, owner)
    assert found is None or isinstance(found.entity, str)


@fuzzed
@given(bodies(LISTING))
def test_listing_or_our_error_when_the_fine_tuning_api_answers_anything(body: bytes) -> None:
    found = raises_only(AppError, lambda: jobs._listing(Answer(200, {}, body), b""))
    assert found is None or all(isinstance(item, dict) for item in found.items)


@fuzzed
@given(bodies(ROWS))
def test_rows_or_our_error_when_storage_answers_anything(body: bytes) -> None:
    raises_only(AppError, lambda: tables._page(Answer(200, {}, body)))


@fuzzed
@given(st.one_of(st.binary(max_size=200), st.integers(0, len(BATCH)).map(lambda end: BATCH[:end])))
def test_etags_or_our_error_when_storage_answers_a_part_of_a_transaction(body: bytes) -> None:
    found = raises_only(AppError, lambda: tables._etags(Answer(202, {}, body), 1, "jobs"))
    assert found is None or len(found) == 1
