"""GraphQL of the W&B stand-in: documents of any shape, runs, states, deletion, listings."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dev.sandbox.wandb.store import hub
from tests.dev.sandbox.wandb.wandb_fixture import ENTITY, WandbServer, wandb_server


@pytest.fixture
async def server() -> AsyncIterator[WandbServer]:
    async with wandb_server() as running:
        yield running


async def run_of(server: WandbServer, name: str, fields: str, **variables: Any) -> Any:
    query = f'query ($n: String!) {{ project(name: "proj") {{ run(name: $n) {{ {fields} }} }} }}'
    return (await server.graphql(query, n=name, **variables))["project"]["run"]


async def test_answer_has_just_what_was_asked_when_the_query_is_small(server: WandbServer) -> None:
    query = "query Anything { viewer { id entity username teams { edges { node { name } } } } }"
    viewer = (await server.graphql(query))["viewer"]
    assert viewer.pop("id")
    assert viewer == {
        "entity": ENTITY,
        "username": "sandbox-user",
        "teams": {"edges": [{"node": {"name": ENTITY}}]},
    }


@pytest.mark.parametrize(
    ("query", "variables"),
    [
        (
            "mutation M($input: UpsertBucketInput!) { upsertBucket(input: $input) { inserted } }",
            {"input": {"name": "r", "modelName": "proj", "tags": ["t"]}},
        ),
        (
            """mutation Other($run: String, $project: String, $labels: [String!]) {
            upsertBucket(input: {name: $run, modelName: $project, tags: $labels, notes: null})
            { inserted } }""",
            {"run": "r", "project": "proj", "labels": ["t"]},
        ),
        (
            'mutation { upsertBucket(input: {name: "r", modelName: "proj", tags: "t"}) { inserted } }',
            {},
        ),
    ],
    ids=["one input", "a variable each", "literals"],
)
async def test_run_is_created_when_variables_come_in_any_style(
    server: WandbServer, query: str, variables: dict[str, Any]
) -> None:
    assert (await server.graphql(query, **variables))["upsertBucket"] == {"inserted": True}
    assert (await server.graphql(query, **variables))["upsertBucket"] == {"inserted": False}
    assert (await server.shown("r"))["tags"] == ["t"]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("{ viewer { shoeSize } }", 'Cannot query field "shoeSize" on type "User".'),
        ("{ viewer {", "Syntax Error"),
        ("query Q($a: Int!) { serverInfo { features { name } } }", "never used"),
        ('mutation { upsertBucket(input: {nmae: "r"}) { inserted } }', "nmae"),
    ],
)
async def test_document_is_refused_when_the_schema_does_not_know_it(
    server: WandbServer, query: str, text: str
) -> None:
    status, answer = await server.call("POST", "/graphql", {"query": query})
    assert status == 400
    assert text in answer["errors"][0]["message"]
    assert await server.control("GET", "runs") == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"oops",
        b'{"query": "query A { viewer { id } } query B { viewer { id } }"}',
    ],
)
async def test_request_is_refused_when_it_names_no_operation(
    server: WandbServer, body: bytes
) -> None:
    status, answer = await server.call("POST", "/graphql", body)
    assert status == 400
    assert answer["errors"]


@pytest.mark.parametrize(
    ("way", "config"),
    [
        ("merge", {"lr": 3, "n": {"a": 2, "b": 4}, "_wandb": {"t": {"12": "x"}}}),
        ("replace", {"lr": 3, "n": {"b": 4}}),
    ],
)
async def test_config_is_merged_unless_it_is_to_be_replaced_when_it_is_sent_again(
    server: WandbServer, way: str, config: dict[str, Any]
) -> None:
    await server.control("PUT", "settings", {"config": way})
    first = {"lr": {"value": 1}, "n": {"value": {"a": 2}}, "_wandb": {"value": {"t": {"12": "x"}}}}
    await server.upsert("r", config=json.dumps(first), notes="n", groupName="g", jobType="j")
    assert (await server.shown("r"))["config"] == {
        "lr": 1,
        "n": {"a": 2},
        "_wandb": {"t": {"12": "x"}},
    }
    second = {"lr": {"value": 3}, "n": {"value": {"b": 4}}}
    await server.upsert("r", config=json.dumps(second), summaryMetrics='{"s": 1}')
    shown = await server.shown("r")
    assert shown["config"] == config
    assert shown["summary"] == {"s": 1}
    # What an upsert leaves out stays.
    assert (shown["notes"], shown["group"], shown["job_type"]) == ("n", "g", "j")


@pytest.mark.parametrize(
    "fields",
    [
        {"config": "{"},
        {"summaryMetrics": "x"},
        {"state": "finished"},
        {"name": "r" * 65},
        {"groupName": "ä" * 65},
        {"jobType": "j" * 65},
        {"displayName": "d" * 129},
        {"modelName": "p" * 129},
        {"tags": ["t", ""]},
        {"tags": ["t" * 65]},
    ],
    ids=lambda fields: f"{next(iter(fields))}-{len(next(iter(fields.values())))}",
)
async def test_upsert_is_refused_when_a_value_makes_no_sense_or_is_too_long(
    server: WandbServer, fields: dict[str, Any]
) -> None:
    query = "mutation M($i: UpsertBucketInput!) { upsertBucket(input: $i) { inserted } }"
    wanted = {"name": "r", "modelName": "proj", **fields}
    body = {"query": query, "variables": {"i": wanted}}
    status, answer = await server.call("POST", "/graphql", body)
    assert (status, answer["data"]) == (400, {"upsertBucket": None})
    assert await server.control("GET", "runs") == []


RESUME = """query RunResumeStatus($project: String, $entity: String, $name: String!) {
    model(name: $project, entityName: $entity) { id name entity { id name }
        bucket(name: $name, missingOk: true) { id name summaryMetrics displayName logLineCount
            historyLineCount eventsLineCount historyTail eventsTail config tags notes
            wandbConfig(keys: ["t"]) } } }"""


async def test_upsert_passes_when_every_value_is_as_long_as_it_may_be(
    server: WandbServer,
) -> None:
    longest = {"groupName": "ä" * 64, "jobType": "j" * 64, "displayName": "d" * 128}
    await server.upsert("r" * 64, tags=["t" * 64, "t"], **longest)
    shown = await server.shown("r" * 64)
    assert (shown["group"], shown["job_type"]) == ("ä" * 64, "j" * 64)


async def test_counts_are_seconds_old_when_a_client_resumes(server: WandbServer) -> None:
    now = 1000.0
    hub(server.world).clock = lambda: now
    await server.upsert("r")
    seen = []
    for step in range(3):
        await server.rows("r", step, json.dumps({"_step": step}))
        now += 2
        model = (await server.graphql(RESUME, project="proj", entity=ENTITY, name="r"))["model"]
        seen.append(
            (model["bucket"]["historyLineCount"], json.loads(model["bucket"]["historyTail"]))
        )
    assert seen == [(0, []), (1, ['{"_step": 0}']), (2, ['{"_step": 0}', '{"_step": 1}'])]


async def test_run_is_refused_with_404_when_its_entity_does_not_exist(server: WandbServer) -> None:
    query = "mutation M($i: UpsertBucketInput!) { upsertBucket(input: $i) { inserted } }"
    wanted = {"name": "r", "modelName": "proj", "entityName": "nowhere"}
    body = {"query": query, "variables": {"i": wanted}}
    status, answer = await server.call("POST", "/graphql", body)
    said = answer["errors"][0]["message"]
    assert (status, said) == (404, "entity nowhere not found during upsertBucket")
    await server.control("PUT", "settings", {"entities": "any"})
    assert (await server.call("POST", "/graphql", body))[0] == 200


async def test_resume_status_has_all_counts_when_the_run_exists(server: WandbServer) -> None:
    await server.control("PUT", "settings", {"counter_lag_s": 0})
    assert await server.graphql(RESUME, project="proj", entity=ENTITY, name="r") == {"model": None}
    config = {"_wandb": {"value": {"t": {"12": "0.31.0"}, "m": []}}}
    await server.upsert("r", config=json.dumps(config), displayName="d")
    rows = [json.dumps({"_step": step, "a": float("nan")}) for step in range(20)]
    files = {
        "wandb-history.jsonl": {"offset": 0, "content": rows},
        "wandb-events.jsonl": {"offset": 0, "content": ['{"system.cpu": 1}']},
        "output.log": {"offset": 0, "content": ["a", "b", "c"]},
    }
    await server.stream("r", {"files": files})
    model = (await server.graphql(RESUME, project="proj", entity=ENTITY, name="r"))["model"]
    bucket = model["bucket"]
    counts = [bucket[f"{kind}LineCount"] for kind in ("history", "events", "log")]
    assert counts == [20, 1, 3]
    assert json.loads(bucket["wandbConfig"]) == {"t": {"12": "0.31.0"}}
    assert json.loads(json.loads(bucket["historyTail"])[-1]) == {"_step": 19, "a": "NaN"}
    assert json.loads(bucket["summaryMetrics"]) == {"_step": 19, "a": "NaN"}
    model = (await server.graphql(RESUME, project="proj", entity=ENTITY, name="other"))["model"]
    assert (model["name"], model["bucket"]) == ("proj", None)


async def test_name_stays_taken_when_a_run_is_deleted(server: WandbServer) -> None:
    run = (await server.upsert("r"))["bucket"]
    await server.rows("r", 0, '{"_step": 0}')
    await server.control("DELETE", f"runs/{ENTITY}/proj/r")
    assert (await server.stream("r", {}))[0] == 404
    assert (await server.graphql(RESUME, project="proj", name="r"))["model"]["bucket"] is None
    query = "mutation M($i: UpsertBucketInput!) { upsertBucket(input: $i) { inserted } }"
    body = {"query": query, "variables": {"i": {"name": "r", "modelName": "proj"}}}
    status, answer = await server.call("POST", "/graphql", body)
    assert status == 409
    assert "was previously created and deleted" in answer["errors"][0]["message"]
    body["variables"] = {"i": {"id": run["id"]}}
    assert (await server.call("POST", "/graphql", body))[0] == 404
    shown = await server.shown("r")
    assert shown["deleted"] is True
    assert len(shown["history"]) == 1


UPDATE = "mutation U($input: UpdateRunStateInput!) { updateRunState(input: $input) { success } }"


@pytest.mark.parametrize(
    ("before", "wanted", "status"),
    [
        ({}, "pending", 200),
        ({}, "failed", 200),
        ({"complete": True, "exitcode": 1}, "pending", 200),
        ({"complete": True, "exitcode": 0}, "pending", 400),
        ({"complete": True, "exitcode": 0}, "failed", 400),
        ({}, "finished", 400),
    ],
    ids=str,
)
async def test_state_changes_only_when_the_transition_is_allowed(
    server: WandbServer, before: dict[str, Any], wanted: str, status: int
) -> None:
    run_id = (await server.upsert("r"))["bucket"]["id"]
    await server.stream("r", before)
    old = (await server.shown("r"))["state"]
    body = {"query": UPDATE, "variables": {"input": {"id": run_id, "state": wanted}}}
    assert (await server.call("POST", "/graphql", body))[0] == status
    assert (await server.shown("r"))["state"] == (wanted if status == 200 else old)


async def test_runs_are_listed_as_wanted_when_filtered_and_ordered(server: WandbServer) -> None:
    for number, name in enumerate("abcd"):
        config = json.dumps({"lr": {"value": number}, "deep": {"value": {"x": number % 2}}})
        await server.upsert(name, config=config, tags=[f"t{number}", "all"])
        await server.stream(name, {"complete": True, "exitcode": number % 2})
    query = """query R($f: JSONString, $o: String, $n: Int, $c: String) { project(name: "proj") {
        runCount(filters: $f) runs(filters: $f, order: $o, first: $n, after: $c) {
        edges { cursor node { name } } pageInfo { endCursor hasNextPage } } } }"""

    async def names(rule: Any, order: str | None = None) -> str:
        found = (await server.graphql(query, f=json.dumps(rule), o=order))["project"]
        assert found["runCount"] == len(found["runs"]["edges"])
        return "".join(edge["node"]["name"] for edge in found["runs"]["edges"])

    assert await names({}) == "abcd"
    assert await names({}, "-created_at") == "dcba"
    assert await names({}, "-config.lr.value") == "dcba"
    assert await names({"state": "failed"}) == "bd"
    assert await names({"config.lr": {"$gte": 1, "$lt": 3}}) == "bc"
    assert await names({"config.deep.x": 0}) == "ac"
    assert await names({"tags": {"$in": ["t0", "t3"]}}) == "ad"
    assert await names({"$or": [{"name": "a"}, {"config.lr": {"$ne": 2}, "tags": "t3"}]}) == "ad"
    assert await names({"config.none": {"$exists": True}}) == ""
    page = (await server.graphql(query, n=3))["project"]["runs"]
    assert page["pageInfo"] == {"endCursor": "2", "hasNextPage": True}
    page = (await server.graphql(query, n=3, c="2"))["project"]["runs"]
    assert [edge["node"]["name"] for edge in page["edges"]] == ["d"]
    assert page["pageInfo"]["hasNextPage"] is False


async def test_history_is_thinned_only_when_no_steps_are_named(server: WandbServer) -> None:
    await server.upsert("r")
    rows = [
        json.dumps({"_step": i, "a": i} | ({"b": {"c": i}} if i % 2 else {})) for i in range(30)
    ]
    await server.rows("r", 0, *rows, rows[-1])
    assert len((await run_of(server, "r", "history(samples: 10)"))["history"]) == 10
    # A doubled row must show, however few rows are asked for.
    ranged = await run_of(server, "r", "history(minStep: 28, maxStep: 30, samples: 1)")
    assert [json.loads(line)["_step"] for line in ranged["history"]] == [28, 29, 29]
    spec = json.dumps({"keys": ["b.c", "_step"], "minStep": 0, "maxStep": 3, "samples": 1})
    sampled = await run_of(server, "r", f"sampledHistory(specs: [{json.dumps(spec)}])")
    assert sampled["sampledHistory"] == [[{"b.c": 1, "_step": 1}, {"b.c": 3, "_step": 3}]]


async def test_rows_are_found_by_step_when_they_are_out_of_order(server: WandbServer) -> None:
    await server.upsert("r")
    await server.rows("r", 0, *(json.dumps({"_step": step}) for step in (5, 1, 3, 9)))
    run = await run_of(server, "r", "historyKeys history(minStep: 2, maxStep: 6)")
    assert [json.loads(line)["_step"] for line in run["history"]] == [5, 3]
    assert run["historyKeys"]["lastStep"] == 9


async def test_alert_reaches_nobody_when_it_repeats_within_its_wait(server: WandbServer) -> None:
    await server.upsert("r")
    query = """mutation A($entityName: String!, $projectName: String!, $runName: String!,
        $title: String!, $text: String!, $severity: AlertSeverity = INFO, $waitDuration: Duration) {
        notifyScriptableRunAlert(input: {entityName: $entityName, projectName: $projectName,
        runName: $runName, title: $title, text: $text, severity: $severity,
        waitDuration: $waitDuration}) { success } }"""
    common = {"entityName": ENTITY, "projectName": "proj", "runName": "r", "text": "x"}
    for title, wait in (("a", 60000), ("a", 60000), ("b", 60000), ("a", 0)):
        await server.graphql(query, title=title, waitDuration=wait, **common)
    alerts = (await server.shown("r"))["alerts"]
    assert [(a["title"], a["severity"], a["sent"]) for a in alerts] == [
        ("a", "INFO", True),
        ("a", "INFO", False),
        ("b", "INFO", True),
        ("a", "INFO", True),
    ]


async def test_file_is_listed_when_its_bytes_were_uploaded(server: WandbServer) -> None:
    await server.upsert("r")
    query = """mutation F($files: [String!]!) { createRunFiles(input: {projectName: "proj",
        runName: "r", files: $files}) { runID uploadHeaders files { name uploadUrl } } }"""
    names = ["media/a b.txt", "never.txt"]
    files = (await server.graphql(query, files=names))["createRunFiles"]["files"]
    # A presigned address asks for no key.
    path = files[0]["uploadUrl"].removeprefix(server.url)
    assert (await server.call("PUT", path, b"hello", key=None))[0] == 200
    assert (await server.call("GET", path, key=None)) == (200, "hello")
    assert (await server.call("GET", path + "x", key=None))[0] == 404
    assert (await server.shown("r"))["files"] == ["media/a b.txt"]
    route = f"/files/{ENTITY}/proj/r/media/a%20b.txt"
    assert await server.call("GET", route) == (200, "hello")
    assert (await server.call("GET", route, key=None))[0] == 401
    listed = await run_of(
        server, "r", 'fileCount files(pattern: "%.txt") { edges { node { name } } }'
    )
    assert listed == {"fileCount": 1, "files": {"edges": [{"node": {"name": "media/a b.txt"}}]}}


async def test_telemetry_is_swallowed_when_it_has_no_key(server: WandbServer) -> None:
    assert (await server.call("POST", "/sdk/otel/v1/metrics", b"\x00", key=None))[0] == 200
