"""Keys of the W&B stand-in: who is let in, who may write, which key a request carried."""

import base64
import json
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import pytest

from tests.dev.sandbox.wandb.wandb_fixture import ENTITY, KEY, WandbServer, wandb_server

VIEWER = "{ viewer { id entity username teams { edges { node { name } } } } }"
OTHER = "wandb_v1_" + "z" * 77


@pytest.fixture
async def server() -> AsyncIterator[WandbServer]:
    async with wandb_server() as running:
        yield running


async def ask(server: WandbServer, key: str | None, query: str = VIEWER, **variables: Any) -> Any:
    return await server.call("POST", "/graphql", {"query": query, "variables": variables}, key)


def short(key: str) -> str:
    return sha256(key.encode()).hexdigest()[:12]


@pytest.mark.parametrize(
    ("key", "status"),
    [
        ("a" * 40, 200),
        ("local-" + "a" * 40, 200),
        ("wandb_v1_" + "A9" * 40, 200),
        (".".join(["abc" * 10] * 3), 200),
        ("a" * 39, 401),
        ("a" * 40 + "!", 401),
        ("a" * 20 + " " + "a" * 20, 401),
        ("", 401),
        (None, 401),
    ],
    ids=["legacy", "on-prem", "v1", "jwt", "short", "symbol", "blank inside", "empty", "none"],
)
async def test_key_is_let_in_when_its_shape_is_plausible(
    server: WandbServer, key: str | None, status: int
) -> None:
    got, answer = await ask(server, key)
    assert got == status
    if status == 401:
        assert answer["errors"][0] == {
            "message": "user is not logged in",
            "extensions": {"code": "PERMISSION_ERROR"},
        }
    else:
        assert answer["data"]["viewer"]["entity"] == ENTITY


@pytest.mark.parametrize(
    "header",
    [
        "Bearer " + "a" * 40,
        "Basic " + base64.b64encode(b"user:" + b"a" * 40).decode(),
        "Basic not-base64!",
        "Basic " + base64.b64encode(b"\xff\xfe").decode(),
    ],
)
async def test_request_is_refused_when_the_header_is_not_the_key_form(
    server: WandbServer, header: str
) -> None:
    body = {"query": VIEWER}
    status, _ = await server.call("POST", "/graphql", body, key=None, Authorization=header)
    assert status == 401


async def test_key_is_refused_everywhere_when_it_is_revoked(server: WandbServer) -> None:
    await server.upsert("r", key=OTHER)
    await server.control("PUT", "keys", {"key": OTHER, "state": "revoked"})
    assert (await ask(server, OTHER))[0] == 401
    assert (await server.stream("r", {}, OTHER))[0] == 401
    assert (await server.stream("r", {}))[0] == 200
    await server.control("PUT", "keys", {"key": OTHER, "state": "active"})
    assert (await ask(server, OTHER))[0] == 200


async def test_only_registered_keys_pass_when_the_default_is_reject(server: WandbServer) -> None:
    assert (await ask(server, KEY))[0] == 200
    await server.control("PUT", "keys", {"key": OTHER, "entity": "acme", "teams": ["acme", "b"]})
    await server.control("PUT", "settings", {"default_keys": "reject"})
    assert (await ask(server, KEY))[0] == 401
    status, answer = await ask(server, OTHER)
    assert status == 200
    viewer = answer["data"]["viewer"]
    assert viewer["entity"] == "acme"
    assert [edge["node"]["name"] for edge in viewer["teams"]["edges"]] == ["acme", "b"]


UPSERT = """mutation ($e: String, $p: String, $n: String) {
    upsertBucket(input: {entityName: $e, modelName: $p, name: $n}) {
        bucket { project { entity { name } } } } }"""


@pytest.mark.parametrize(
    ("write", "entity", "project", "status"),
    [
        (["acme"], "acme", "any", 200),
        (["acme"], None, "any", 200),
        (["acme/ft-*"], "acme", "ft-1", 200),
        (["acme/ft-*"], "acme", "other", 403),
        (["ac*"], "acme", "any", 200),
        (["acme"], "sandbox-team", "any", 403),
        ([], "acme", "any", 403),
        (["other"], "other", "any", 200),
        (None, "acme", "any", 200),
        (None, "sandbox-team", "any", 403),
        (None, "elsewhere", "any", 404),
    ],
)
async def test_write_is_allowed_only_when_the_key_reaches_the_project(
    server: WandbServer, write: list[str] | None, entity: str | None, project: str, status: int
) -> None:
    await server.control("PUT", "keys", {"key": OTHER, "entity": "acme", "write": write})
    got, answer = await ask(server, OTHER, UPSERT, e=entity, p=project, n="r")
    assert got == status, answer
    if status == 403:
        assert answer["errors"][0]["message"] == "permission denied"
        assert answer["errors"][0]["extensions"] == {"code": "PERMISSION_ERROR"}
        assert answer["data"] == {"upsertBucket": None}
        assert await server.control("GET", "runs") == []


async def test_run_of_another_team_is_out_of_reach_when_the_key_is_limited(
    server: WandbServer,
) -> None:
    run_id = (await server.upsert("r"))["bucket"]["id"]
    await server.control("PUT", "keys", {"key": OTHER, "entity": "acme", "write": ["acme"]})
    assert (await server.stream("r", {}, OTHER))[0] == 403
    query = 'query ($e: String) { project(name: "proj", entityName: $e) { id } }'
    assert (await ask(server, OTHER, query, e=ENTITY))[1]["data"] == {"project": None}
    query = "mutation ($id: ID!) { deleteRun(input: {id: $id}) { clientMutationId } }"
    assert (await ask(server, OTHER, query, id=run_id))[0] == 403
    assert (await server.shown("r"))["deleted"] is False


async def test_requests_are_counted_by_key_when_several_are_in_use(server: WandbServer) -> None:
    await server.upsert("r")
    await server.stream("r", {})
    await server.stream("r", {}, OTHER)
    await server.stream("r", {}, OTHER)
    await ask(server, "short")
    seen = await server.control("GET", "requests-by-key")
    path = f"/files/{ENTITY}/proj/r/file_stream"
    counts = {r["key_sha256"]: r["count"] for r in seen if r["path"] == path}
    assert counts == {short(KEY): 1, short(OTHER): 2}
    assert {
        "key_sha256": short(KEY),
        "method": "POST",
        "path": "/graphql",
        "operation": "Put",
        "field": "upsertBucket",
        "run": f"{ENTITY}/proj/r",
        "count": 1,
    } in seen
    assert next(r for r in seen if r["key_sha256"] == short("short"))["run"] is None
    await server.control("DELETE", "requests-by-key")
    assert await server.control("GET", "requests-by-key") == []


async def test_value_of_a_key_is_shown_nowhere_when_the_sandbox_is_asked(
    server: WandbServer,
) -> None:
    await server.upsert("r")
    shown = await server.control("PUT", "keys", {"key": OTHER, "write": ["a"]})
    assert shown["key_sha256"] == short(OTHER)
    told = [shown, await server.shown("r")]
    for path in ("keys", "requests-by-key", "settings", "runs"):
        told.append(await server.control("GET", path))
    told.append(await server.call("PUT", "/_sandbox/wandb/keys", {"key": OTHER, "state": "odd"}))
    text = json.dumps(told) + repr(server.world)
    assert short(OTHER) in text
    assert OTHER not in text
    assert KEY not in text


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("keys", [], "body"),
        ("keys", {}, "key"),
        ("keys", {"key": OTHER, "state": "asleep"}, "state"),
        ("keys", {"key": OTHER, "teams": "acme"}, "teams"),
        ("keys", {"key": OTHER, "write": [1]}, "write"),
        ("keys", {"key": OTHER, "entity": "a/b"}, "entity"),
        ("settings", {"default_keys": "maybe"}, "default_keys"),
        ("settings", {"speed": 1}, "speed"),
        ("settings", {"silence_s": 0}, "silence_s"),
        ("settings", b"oops", "body"),
    ],
)
async def test_control_names_the_field_when_a_body_is_wrong(
    server: WandbServer, path: str, body: Any, field: str
) -> None:
    status, answer = await server.call("PUT", f"/_sandbox/wandb/{path}", body, key=None)
    assert status == 400
    assert answer["field"] == field


GENERATE = (
    "mutation ($d: String) { generateApiKey(input: {description: $d}) { apiKey { id name } } }"
)
DELETE = "mutation ($id: String!) { deleteApiKey(input: {id: $id}) { success } }"


async def test_minted_key_works_until_its_owner_deletes_it(server: WandbServer) -> None:
    await server.control(
        "PUT", "keys", {"key": OTHER, "entity": "acme", "write": ["acme"], "username": "o"}
    )
    minted = (await ask(server, OTHER, GENERATE, d="rotation"))[1]["data"]["generateApiKey"][
        "apiKey"
    ]
    status, answer = await ask(server, minted["name"])
    assert (status, answer["data"]["viewer"]["username"]) == (200, "o")
    assert (await ask(server, minted["name"], UPSERT, e="sandbox-team", p="p", n="r"))[0] == 403
    assert (await ask(server, KEY, DELETE, id=minted["id"]))[0] == 403
    assert (await ask(server, OTHER, DELETE, id=minted["id"]))[0] == 200
    assert (await ask(server, minted["name"]))[0] == 401
    assert (await ask(server, OTHER, DELETE, id=minted["id"]))[0] == 404


@pytest.mark.parametrize("most", [0, 2])
async def test_no_key_is_minted_when_the_user_has_all_that_are_allowed(
    server: WandbServer, most: int
) -> None:
    await server.control("PUT", "keys", {"key": OTHER, "entity": "acme", "username": "o"})
    await server.control("PUT", "settings", {"keys_per_user": most})
    made = [(await ask(server, OTHER, GENERATE, d="x"))[0] for _ in range(2)]
    assert made == ([403, 403] if most == 0 else [200, 403])


async def test_keys_are_not_listed_when_the_client_is_not_wandbs_own(server: WandbServer) -> None:
    query = "{ viewer { apiKeys { edges { node { name } } } } }"
    status, answer = await ask(server, KEY, query)
    assert (status, answer["errors"][0]["message"]) == (401, "relogin required")
    body = {"query": query}
    own = {"User-Agent": "W&B Public Client 0.31.0"}
    status, answer = await server.call("POST", "/graphql", body, KEY, **own)
    edges = answer["data"]["viewer"]["apiKeys"]["edges"]
    assert (status, edges) == (200, [{"node": {"name": short(KEY)}}])
