"""Inputs for the fuzz targets: any JSON, real objects with something wrong in them, any bytes.

`FUZZ_N` is how many inputs each target gets; without it few enough for every test run.
"""

import copy
import json
import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

N = int(os.environ.get("FUZZ_N", "75"))

fuzzed = settings(
    max_examples=N,
    deadline=None,
    database=None,
    # Nested JSON is slow to make, and some of it is large.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    print_blob=True,
)

_TEXT = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        (
            *("", " ", "-1", "NaN", "1e999", "0x10", "1_000", "\x00", "\ud800", "‮", "null"),
            *("<script>alert(1)</script>", "'; drop table jobs; --", "../../etc", "a" * 5000),
            *("Bearer abcdefghijklmnopqrstuvwxyz", "🤖" * 20, "١٢٣", "step", "name"),
        )
    ),
)
_NUMBERS = st.one_of(
    st.integers(-(10**25), 10**25),
    st.floats(),
    st.sampled_from((0, -1, 1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 1e300, -0.0)),
)
scalars = st.one_of(st.none(), st.booleans(), _NUMBERS, _TEXT)
any_json = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_TEXT, inner, max_size=4)),
    max_leaves=12,
)
junk = st.one_of(
    any_json,
    st.builds(lambda: {"a": [[[[[[[[[[[[[[[[[[[[{}]]]]]]]]]]]]]]]]]]]]}),
    st.builds(lambda: [None] * 50),
)


@st.composite
def damaged(draw: st.DrawFn, *samples: Any) -> Any:
    """Return a copy of a sample with up to four of its parts replaced, removed or added."""
    value = copy.deepcopy(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(0, 4))):
        places = list(_places(value))
        if not places:
            return draw(junk)
        holder, key = draw(st.sampled_from(places))
        match draw(st.integers(0, 3)):
            case 0 if isinstance(holder, dict):
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[draw(_TEXT)] = draw(junk)
            case 2 if isinstance(holder, dict):
                # The irregular spellings of the documentation's own examples.
                holder[f" {str(key).upper()} "] = holder.pop(key)
            case _:
                holder[key] = draw(junk)
    return value


def _places(value: Any) -> Any:
    if isinstance(value, dict):
        for key in list(value):
            yield value, key
            yield from _places(value[key])
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield value, place
            yield from _places(inner)


def as_bytes(value: Any) -> bytes:
    """Return a value as the bytes of a body, as lax writers write JSON: NaN, half surrogates."""
    return json.dumps(value).encode("utf-8", "surrogatepass")


def bodies(*samples: Any) -> st.SearchStrategy[bytes]:
    """Return bodies: damaged samples as JSON, any JSON, JSON that is cut or flipped, any bytes."""
    whole = st.one_of(damaged(*samples), any_json).map(as_bytes)
    return st.one_of(whole, whole, _broken(whole), st.binary(max_size=200))


@st.composite
def _broken(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    data = bytearray(draw(whole))
    if data and draw(st.booleans()):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))])


def raises_only(allowed: type[Exception], action: Callable[[], Any]) -> Any:
    """Return what the action gives, None where it raises what it may; everything else is a bug."""
    try:
        return action()
    except allowed:
        return None
