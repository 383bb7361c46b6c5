"""Ids, vault addresses and headers: whatever text comes, an address or the documented error."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from finetune_wandb.clients.storage.tables import table_key
from finetune_wandb.clients.translate import parse_retry_after
from finetune_wandb.model import ids
from finetune_wandb.model.errors import NoticeError
from tests.fuzz.inputs import fuzzed, junk, raises_only

_GUID = "00000000-0000-0000-0000-000000000001"
_ACCOUNT = (
    f"/subscriptions/{_GUID}/resourceGroups/rg/providers/Microsoft.CognitiveServices/accounts/a"
)
_PIECES = st.lists(
    st.one_of(
        st.sampled_from(
            (
                *("/subscriptions/", _GUID, "/resourceGroups/", "rg", "/RESOURCEGROUPS/"),
                *("/providers/Microsoft.CognitiveServices/accounts/", "a", "/", "..", "%2F", "\n"),
                *("https://", "http://", "kv-main", ".vault.azure.net", "@", ":443", ":8443", "#"),
                *("?", "\\", "evil.example", "secrets/x", "[", "]", " ", "\t", "vаult"),
            )
        ),
        st.text(max_size=4),
    ),
    max_size=9,
).map("".join)
texts = st.one_of(_PIECES, st.text(max_size=80), junk)


@fuzzed
@given(texts)
@example(_ACCOUNT + "\n")
def test_account_id_is_checked_in_every_part_when_it_is_taken(text: object) -> None:
    found = raises_only(NoticeError, lambda: ids.parse_account_id(text))
    if found is not None:
        assert ids.parse_account_id(str(found)).key == found.key
        assert ids.is_guid(found.subscription)
        assert not set("/\\?#% \n\r\t") & set(found.group + found.name + found.subscription)


@fuzzed
@given(texts)
@example("https://kv-main.vault.azure.net\n.evil.example")
@example("https://kv-main.vault.azure.net\\@evil.example")
def test_vault_address_is_a_key_vault_when_it_is_taken(text: object) -> None:
    found = raises_only(NoticeError, lambda: ids.parse_vault_url(text))
    if found is not None:
        assert found.suffix in ids.VAULT_SUFFIXES
        assert found.name.isascii()
        assert found.name.replace("-", "").isalnum()
        assert ids.parse_vault_url(found.url) == found


@fuzzed
@given(st.text(max_size=200))
@example("name\n")
def test_secret_name_fits_a_url_when_it_is_taken(text: str) -> None:
    if ids.is_secret_name(text):
        assert text.isascii()
        assert text.replace("-", "").isalnum() or not text.strip("-")


@fuzzed
@given(st.text(max_size=300))
@example("name\n")
def test_table_key_is_one_that_tables_take_when_made_of_any_text(text: str) -> None:
    key = raises_only(UnicodeEncodeError, lambda: table_key(text)) or "h-"
    assert not set("/\\#?'") & set(key)
    assert all(ord(letter) > 0x1F and not 0x7F <= ord(letter) <= 0x9F for letter in key)
    assert len(key) < 1024


@fuzzed
@given(st.one_of(st.text(max_size=40), st.floats().map(str), st.integers().map(str)))
@example("Fri, 31 Dec 9999 23:59:59 -2359")
@example("Wed, 21 Oct 2015 07:28:00 +99999999")
def test_pause_is_seconds_or_nothing_when_a_header_says_anything(text: str) -> None:
    pause = parse_retry_after(text)
    assert pause is None or 0 <= pause < float("inf")


@pytest.mark.parametrize("text", ["\n", _ACCOUNT[:-1], f"{_ACCOUNT}/deployments/d"])
def test_account_id_is_refused_when_it_is_another_resource(text: str) -> None:
    with pytest.raises(NoticeError):
        ids.parse_account_id(text)
