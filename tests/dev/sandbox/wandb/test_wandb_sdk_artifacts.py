"""The official SDK logs, uses and downloads artifacts of the W&B stand-in."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.dev.sandbox.wandb.wandb_fixture import KEY, WandbServer, wandb_server

_LOG = """
def log(run, text, aliases=(), extra=None, **more):
    artifact = wandb.Artifact("data", type="dataset", **more)
    with artifact.new_file("res.csv") as file:
        file.write(text)
    if extra:
        with artifact.new_file("sub/extra.txt") as file:
            file.write(extra)
    return run.log_artifact(artifact, aliases=list(aliases)).wait()
"""


@pytest.fixture
async def server() -> AsyncIterator[WandbServer]:
    async with wandb_server() as running:
        yield running


async def test_artifact_comes_back_when_it_was_logged_and_used(
    server: WandbServer, tmp_path: Path
) -> None:
    result = await server.sdk(
        tmp_path,
        _LOG
        + """
import pathlib
run = start("maker")
logged = log(run, "a,b\\n1,2\\n", ["best"], "more", description="d", metadata={"rows": 1})
run.finish()
user = start("user")
used = user.use_artifact("data:best")
user.finish()
api = wandb.Api()
artifact = api.artifact("sandbox-team/proj/data:latest", type="dataset")
folder = pathlib.Path(artifact.download(root="out", skip_cache=True))
maker = api.run("sandbox-team/proj/maker")
result = {
    "name": [logged.name, used.name, used.source_name, artifact.name, artifact.version,
             artifact.type],
    "about": [artifact.description, artifact.metadata, sorted(artifact.aliases), artifact.size],
    "files": {p.relative_to(folder).as_posix(): p.read_text()
              for p in folder.rglob("*") if p.is_file()},
    "listed": sorted(file.name for file in artifact.files()),
    "one": open(artifact.get_entry("res.csv").download(root="one", skip_cache=True)).read(),
    "by": [artifact.logged_by().id, [run.id for run in artifact.used_by()]],
    "runs": [[a.name for a in maker.logged_artifacts()],
             [a.name for a in api.run("sandbox-team/proj/user").used_artifacts()]],
    "exists": [api.artifact_exists("sandbox-team/proj/data:v0"),
               api.artifact_exists("sandbox-team/proj/data:v1")],
    "types": [kind.name for kind in api.artifact_types("sandbox-team/proj")],
}
""",
    )
    assert result["name"] == ["data:v0", "data:best", "data:v0", "data:latest", "v0", "dataset"]
    assert result["about"] == ["d", {"rows": 1}, ["best", "latest"], 12]
    assert result["files"] == {"res.csv": "a,b\n1,2\n", "sub/extra.txt": "more"}
    assert result["listed"] == ["res.csv", "sub/extra.txt"]
    assert result["one"] == "a,b\n1,2\n"
    assert result["by"] == ["maker", ["user"]]
    assert result["runs"] == [["data:v0"], ["data:v0"]]
    assert result["exists"] == [True, False]
    assert result["types"] == ["dataset"]
    (logged,) = (await server.shown("maker"))["artifacts_logged"]
    assert (logged["name"], logged["type"], logged["files"]) == (
        "data:v0",
        "dataset",
        ["res.csv", "sub/extra.txt"],
    )
    (used,) = (await server.shown("user"))["artifacts_used"]
    assert used == logged
    # Files go to presigned addresses, which carry no key.
    paths = {r["path"] for r in await server.control("GET", "requests-by-key")}
    assert not [path for path in paths if path.startswith("/storage")]


async def test_version_is_new_only_when_the_content_is(server: WandbServer, tmp_path: Path) -> None:
    result = await server.sdk(
        tmp_path,
        _LOG
        + """
run = start("r")
first = log(run, "one", ["a"], "shared")
again = log(run, "one", ["b"], "shared")
second = log(run, "two", ["a"], "shared")
run.finish()
api = wandb.Api()
versions = [a.name for a in api.artifacts("dataset", "sandbox-team/proj/data")]
result = [first.name, again.name, second.name, versions,
          sorted(api.artifact("sandbox-team/proj/data:v0").aliases),
          sorted(api.artifact("sandbox-team/proj/data:v1").aliases)]
artifact = api.artifact("sandbox-team/proj/data:v1")
artifact.aliases.append("prod")
artifact.description = "changed"
artifact.save()
old = api.artifact("sandbox-team/proj/data:v0")
old.delete(delete_aliases=True)
api = wandb.Api()
result += [api.artifact("sandbox-team/proj/data:prod").description,
           api.artifact_exists("sandbox-team/proj/data:v0"),
           open(artifact.download(root="o", skip_cache=True) + "/sub/extra.txt").read()]
""",
    )
    assert result == [
        "data:v0",
        "data:v0",
        "data:v1",
        ["data:v1", "data:v0"],
        ["b"],
        ["a", "latest"],
        "changed",
        False,
        "shared",
    ]


async def test_upload_is_refused_when_the_bytes_differ_from_the_digest(
    server: WandbServer,
) -> None:
    await server.upsert("r")
    query = (
        """mutation A($i: CreateArtifactInput!) { createArtifact(input: $i) { artifact { id } } }"""
    )
    wanted = {
        "entityName": "sandbox-team",
        "projectName": "proj",
        "runName": "r",
        "artifactTypeName": "t",
        "artifactCollectionName": "c",
        "digest": "x",
    }
    artifact = (await server.graphql(query, i=wanted))["createArtifact"]["artifact"]
    query = """mutation F($i: CreateArtifactFilesInput!) { createArtifactFiles(input: $i) {
        files { edges { node { uploadUrl uploadHeaders } } } } }"""
    spec = {"artifactID": artifact["id"], "name": "a", "md5": "XUFAKrxLKna5cZ2REBfFkg=="}
    files = (await server.graphql(query, i={"artifactFiles": [spec]}))["createArtifactFiles"]
    node = files["files"]["edges"][0]["node"]
    assert node["uploadHeaders"] == ["Content-MD5:XUFAKrxLKna5cZ2REBfFkg=="]
    path = node["uploadUrl"].removeprefix(server.url)
    assert (await server.call("PUT", path, b"bye", key=None))[0] == 400
    assert (await server.call("PUT", path, b"hello", key=None))[0] == 200
    again = (await server.graphql(query, i={"artifactFiles": [spec]}))["createArtifactFiles"]
    assert again["files"]["edges"][0]["node"]["uploadUrl"] is None
    # Nothing counts as logged before it is committed.
    assert (await server.shown("r"))["artifacts_logged"] == []
    body = {"query": query, "variables": {"i": {"artifactFiles": [spec]}}}
    await server.control("PUT", "keys", {"key": KEY, "write": ["other"]})
    assert (await server.call("POST", "/graphql", body))[0] == 403
