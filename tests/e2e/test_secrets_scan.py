"""No key is in logs, tables, queue messages or HTTP answers, whatever went wrong with it.

Every stack of the end-to-end tests is scanned like this one when it stops (`driver.running`);
here the scan itself is put to the test too, and fed with what is most likely to give a key away.
"""

import base64
import itertools
import zlib
from pathlib import Path
from urllib.parse import quote

import pytest

from dev.tools.local_stack import Stack
from tests.e2e.driver import Driver, job_object, metric_events, running, until
from tests.e2e.rotating import Key, new_key, revoke
from tests.e2e.secrets_scan import Witness, encodings, leaks

HIDDEN = "wandb_v1_" + "Zx9" * 25
ODD = "an odd ~value~ with +/= in it, no key's shape"


def in_basic(value: str) -> bytes:
    return b"Basic " + base64.b64encode(f"api:{value}".encode())


@pytest.mark.parametrize("value", [HIDDEN, ODD], ids=["a key", "another value"])
@pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
@pytest.mark.parametrize(
    "form",
    [
        lambda text: text.encode(),
        lambda text: base64.b64encode(text.encode()),
        lambda text: base64.urlsafe_b64encode(text.encode()),
        lambda text: text.encode().hex().encode(),
        lambda text: "".join(f"%{byte:02X}" for byte in text.encode()).encode(),
        lambda text: b'{"x": "' + base64.b64encode(f'{{"key":"{text}"}}'.encode()) + b'"}',
        in_basic,
    ],
    ids=["clear", "base64", "url base64", "hex", "percent", "base64 of JSON", "Basic"],
)
def test_key_is_found_in_every_form(value: str, before: str, form: object) -> None:
    data = b"some text " + form(before + value) + b" more text"  # type: ignore[operator]
    assert leaks(data, [value])
    if value == HIDDEN:
        assert leaks(data), "by its shape alone"


@pytest.mark.parametrize(
    "text",
    ["wandb_v1_ is how keys begin", "wandb-api-key", "d2FuZGI=", "sha256:" + "0af3" * 16],
)
def test_nothing_is_found_where_there_is_no_key(text: str) -> None:
    assert leaks(text.encode(), [HIDDEN, ODD]) == []


def test_percent_encoded_value_is_among_the_forms() -> None:
    assert quote(ODD, safe="").encode() in encodings(ODD.encode())


def test_key_is_found_in_what_is_compressed(tmp_path: Path) -> None:
    witness = Witness(Stack(run_dir=tmp_path, isolated=True, progress=lambda _: None))
    witness.take("a column", zlib.compress(f'{{"key": "{HIDDEN}"}}'.encode()))
    assert witness.found == {"a column: a key in clear"}
    assert HIDDEN not in repr(witness.found)


FAILURES = ({"drop": "after"}, {"status": 500}, {"raw_body": HIDDEN}, {"status": 401})
"""How W&B fails in the middle of a relay; one of its answers even repeats the key."""


async def look_at(driver: Driver, value: str) -> None:
    """Store a value as a new version and wait until the app has decided about it."""
    version = await driver.put_secret(value)

    async def look() -> bool | None:
        shown = await driver.shown_key()
        return True if shown and shown["newest_version"] == version else None

    await until(look, "the version was not looked at")


async def ask_everything(driver: Driver) -> None:
    """Have every HTTP function answer, also to somebody who sends it a key."""
    for path in ("status", "dashboard", "health", "openapi.json", "resync/none", "audit"):
        await driver.app("GET", f"/api/{path}")
    await driver.app("POST", "/api/resync?wait=5", {"scope": "all"})
    for body in ({"scope": HIDDEN}, {"scope": "account", "account": HIDDEN}, HIDDEN):
        status, _ = await driver.app("POST", "/api/resync", body)
        assert status == 400


@pytest.mark.stack
async def test_no_key_is_anywhere_when_everything_goes_wrong_with_it(tmp_path: Path) -> None:
    env = {"AzureFunctionsJobHost__logging__logLevel__default": "Debug"}
    async with running(tmp_path, host_env=env) as driver:
        driver.witness.values.add(ODD)
        account = await driver.onboard()
        job = driver.new_name("ftjob-scan")
        steps = itertools.count(6)

        async def publish(status: str = "running") -> None:
            events = metric_events(job, next(steps))
            await driver.put_job(account, job, job=job_object(job, status), events=events)

        await publish()
        await driver.job_with(job, 11)
        bad = await new_key(driver, state="revoked")
        for value in (bad.value, ODD, HIDDEN):
            await look_at(driver, value)
        for action in FAILURES:
            fault = {"service": "wandb", "times": 6, "action": action}
            await driver.control("POST", "faults", fault)
            await publish()

            async def used_up() -> bool | None:
                left = await driver.control("GET", "faults")
                return True if not any(item["times"] for item in left) else None

            await until(used_up, f"{action} was not met")
        await revoke(driver, Key(HIDDEN))
        await publish("succeeded")
        await driver.job_in(job, ["parked"])
        await ask_everything(driver)
        await driver.witness.take_all()
        assert driver.witness.found == set()
        looked_at = driver.witness.looked_at
        kinds = {where.partition(" ")[0] for where in looked_at}
        assert kinds >= {"answer", "table", "queue", "file"}
        tables = {"table keys", "table audit", "table jobs", "table accounts"}
        assert tables | {"file host.log"} <= set(looked_at)
