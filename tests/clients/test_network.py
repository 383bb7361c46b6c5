"""Corporate proxies and certificate authorities, by the usual environment variables alone.

Each case is a process of its own, since such settings are read once a process.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from finetune_wandb.clients.transport import Transport
from tests.clients.network_stage import Network, network, proxy

ROOT = Path(__file__).parents[2]
WAYS = ("sink", "prover", "sdk")
PASSWORD = "corp-pass-7Kx"


@pytest_asyncio.fixture
async def corp(tmp_path: Path) -> AsyncIterator[Network]:
    async with network(tmp_path) as running:
        yield running


def environment(**more: object) -> dict[str, str]:
    """Return this process's environment with other network settings."""
    ours = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
    kept = {name: value for name, value in os.environ.items() if name.upper() not in ours}
    return kept | {name: str(value) for name, value in more.items()}


async def asked(url: str, **network: object) -> dict[str, Any]:
    """Return what came of each way to ask, by its name."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.clients.network_probe", url),
        cwd=ROOT,
        env=environment(**network),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()[-4000:]
    assert PASSWORD not in (out + err).decode()
    said: dict[str, Any] = json.loads(out)
    return said


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
async def test_tls_is_accepted_when_the_bundle_holds_its_authority(
    corp: Network, variable: str
) -> None:
    said = await asked(corp.url, **{variable: corp.bundle})
    assert said == dict.fromkeys(WAYS, "ok")


async def test_setting_is_named_when_the_authority_is_not_known(corp: Network) -> None:
    said = await asked(corp.url)
    for way in WAYS:
        assert "certificate" in said[way]["text"], said
        assert "SSL_CERT_FILE" in said[way]["remedy"], said


@pytest.mark.parametrize("login", ["", f"corp-user:{PASSWORD}"], ids=["open", "password"])
async def test_requests_go_by_the_proxy_when_there_is_one(corp: Network, login: str) -> None:
    async with proxy(login=login) as between:
        address = between.url.replace("//", f"//{login}@") if login else between.url
        said = await asked(corp.corp_url, HTTPS_PROXY=address, SSL_CERT_FILE=corp.bundle)
        assert said == dict.fromkeys(WAYS, "ok")
        place = corp.corp_url.removeprefix("https://")
        # Only the proxy can resolve the name: each way went through its tunnels.
        assert set(between.tunnels) == {place}


async def test_requests_go_past_the_proxy_when_no_proxy_names_the_host(
    corp: Network,
) -> None:
    async with proxy() as between:
        more = {"HTTPS_PROXY": between.url, "NO_PROXY": "localhost", "SSL_CERT_FILE": corp.bundle}
        assert await asked(corp.url, **more) == dict.fromkeys(WAYS, "ok")
        assert between.tunnels == []


@pytest.mark.parametrize(
    ("trouble", "named"),
    [
        ({"login": "other:word"}, "password in HTTPS_PROXY"),
        ({"status": 403}, "NO_PROXY"),
        (None, "HTTPS_PROXY"),
    ],
    ids=["wrong password", "forbidden", "away"],
)
async def test_setting_is_named_when_the_proxy_lets_nothing_pass(
    corp: Network, trouble: dict[str, Any] | None, named: str
) -> None:
    async with proxy(**trouble or {}) as made:
        address = made.url if trouble else "http://127.0.0.1:9"
        address = address.replace("//", f"//corp-user:{PASSWORD}@")
        said = await asked(corp.url, HTTPS_PROXY=address, SSL_CERT_FILE=corp.bundle)
        for way in WAYS:
            assert "proxy" in said[way]["text"], said
            assert named in said[way]["remedy"], said
        assert made.tunnels == []


async def test_plain_requests_go_by_the_proxy_when_http_proxy_is_set() -> None:
    async with proxy(login=f"corp-user:{PASSWORD}") as between:
        address = between.url.replace("//", f"//corp-user:{PASSWORD}@")
        await asked("http://wandb.corp.example", HTTP_PROXY=address)
        assert [one.split("/")[2] for one in between.forwards][:2] == ["wandb.corp.example"] * 2


def test_password_is_in_no_address_when_a_tunnel_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("https_proxy", "http://corp%40user:p%3Aw@proxy.corp:3128")
    monkeypatch.setenv("no_proxy", "localhost")
    made = Transport()
    assert made.by_proxy("https://api.wandb.ai/graphql") == {
        "proxy": "http://proxy.corp:3128",
        "proxy_headers": {"Proxy-Authorization": "Basic Y29ycEB1c2VyOnA6dw=="},
    }
    assert made.by_proxy("https://localhost:7700/x") == {}
