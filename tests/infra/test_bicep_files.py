"""The Bicep files hold together: syntax, references, versions, documentation of parameters."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from pycep import BicepParser
from tree_sitter import Node

from tests.infra.bicep import FILES, INFRA, BicepFile, problems, text, walk

AVM = json.loads((Path(__file__).parent / "avm_interfaces.json").read_text())
"""Required and optional parameters and outputs of the public modules at the versions used, as
read in their sources (Azure/bicep-registry-modules, commit 9f9ea1a, checked 2026-11-24)."""

API_VERSIONS = {
    "Microsoft.Authorization/roleAssignments": "2022-04-01",
    "Microsoft.Authorization/roleDefinitions": "2022-04-01",
    "Microsoft.EventGrid/systemTopics": "2025-02-15",
    "Microsoft.KeyVault/vaults": "2024-11-01",
    "Microsoft.KeyVault/vaults/accessPolicies": "2024-11-01",
    "Microsoft.Resources/resourceGroups": "2024-03-01",
    "Microsoft.Storage/storageAccounts": "2025-06-01",
    "Microsoft.Storage/storageAccounts/blobServices": "2025-06-01",
    "Microsoft.Storage/storageAccounts/blobServices/containers": "2025-06-01",
}
"""Every resource type that is used directly, with the version that the AVM modules use too."""

every_file = pytest.mark.parametrize(
    "file", [BicepFile(path) for path in FILES], ids=lambda file: file.path.stem
)


@every_file
def test_file_parses_when_read_by_two_parsers(file: BicepFile) -> None:
    assert problems(file.root) == []
    assert BicepParser().parse(text=file.source.decode())


def test_parsers_complain_when_a_brace_is_missing(tmp_path: Path) -> None:
    broken = tmp_path / "broken.bicep"
    broken.write_text("param a string\nvar b = {\n  c: a\n")
    assert problems(BicepFile(broken).root)
    with pytest.raises(Exception, match="Unexpected"):
        BicepParser().parse(text=broken.read_text())


@every_file
def test_resource_type_and_version_are_known_when_used(file: BicepFile) -> None:
    for block in file.resources.values():
        kind, _, version = block.source.partition("@")
        assert API_VERSIONS.get(kind) == version, block.source


@every_file
def test_module_gets_its_parameters_when_called(file: BicepFile) -> None:
    for module in file.modules.values():
        given = set(module.params)
        if module.source.startswith("br/public:"):
            interface = AVM[module.source.removeprefix("br/public:")]
            required = set(interface["required"])
            known = required | set(interface["optional"])
        else:
            target = BicepFile(file.path.parent / module.source)
            required = {name for name, param in target.params.items() if param.required}
            known = set(target.params)
        assert given <= known, f"{module.symbol}: unknown {given - known}"
        assert required <= given, f"{module.symbol}: missing {required - given}"


@every_file
def test_output_exists_when_it_is_referenced(file: BicepFile) -> None:
    for symbol, output in file.output_uses():
        module = file.modules[symbol]
        if module.source.startswith("br/public:"):
            known = set(AVM[module.source.removeprefix("br/public:")]["outputs"])
        else:
            known = BicepFile(file.path.parent / module.source).outputs
        assert output in known, f"{symbol}.outputs.{output}"


@every_file
def test_name_is_used_when_it_is_declared(file: BicepFile) -> None:
    names = [text(node) for node in walk(file.root) if node.type == "identifier"]
    for name in [*file.params, *file.variables]:
        assert names.count(name) > 1, f"{name} is declared and not used"


@every_file
def test_name_is_declared_when_it_is_used(file: BicepFile) -> None:
    known = {*file.params, *file.variables, *file.resources, *file.modules}
    known |= {text(node) for node in walk(file.root) if _binds_a_name(node)}
    for node in walk(file.root):
        parent = node.parent
        if node.type != "identifier" or parent is None:
            continue
        called = file.source[node.end_byte : node.end_byte + 1] == b"("
        key = parent.type == "object_property" and parent.named_children[0] == node
        if not called and not key and not parent.type.endswith(("_declaration", "_assignment")):
            assert text(node) in known, f"line {node.start_point.row + 1}: {text(node)}"


def _binds_a_name(node: Node) -> bool:
    """Whether the node is the variable of a loop or the parameter of a lambda."""
    parent = node.parent
    if node.type in ("loop_variable", "loop_enumerator") or parent is None:
        return node.type in ("loop_variable", "loop_enumerator")
    if parent.type == "for_statement":
        return parent.child_by_field_name("initializer") == node
    return parent.type == "lambda_expression" and parent.named_children[0] == node


@every_file
def test_parameter_is_explained_when_people_set_it(file: BicepFile) -> None:
    for param in file.params.values():
        assert len(param.description) > 3, param.name
        if param.allowed and param.default is not None:
            assert param.default.strip("'") in param.allowed, param.name


@every_file
def test_no_secret_is_a_plain_parameter_or_output(file: BicepFile) -> None:
    suspicious = re.compile(r"password|apikey|sastoken|accesskey|wandbkey|connectionstring", re.I)
    # Of Application Insights, where local authentication is off: an address, no credential.
    harmless = {"monitoringConnectionString", "connectionString"}
    for name in [*file.params, *file.outputs]:
        assert name in harmless or not suspicious.search(name), name
    for word in (b"listKeys", b"primaryAccessKey", b"primaryConnectionString"):
        assert word not in file.source


def test_every_module_file_is_used() -> None:
    used = {
        (file.path.parent / module.source).resolve()
        for file in map(BicepFile, FILES)
        for module in file.modules.values()
        if not module.source.startswith("br/")
    }
    assert used == set(FILES) - {INFRA / "main.bicep"}


def test_module_versions_are_those_whose_interfaces_were_read() -> None:
    used = {
        module.source.removeprefix("br/public:")
        for file in map(BicepFile, FILES)
        for module in file.modules.values()
        if module.source.startswith("br/")
    }
    assert used == set(AVM)


def test_parameters_file_names_only_parameters_that_exist() -> None:
    given = json.loads((INFRA / "main.parameters.json").read_text())["parameters"]
    params = BicepFile(INFRA / "main.bicep").params
    assert set(given) <= set(params)
    assert {name for name, param in params.items() if param.required} <= set(given)
    for name, entry in given.items():
        default = params[name].default
        if isinstance(entry["value"], str) and "=" in entry["value"]:
            fallback = entry["value"].removesuffix("}").partition("=")[2]
            assert default is not None
            assert fallback == default.strip("'"), name


def test_abbreviations_are_used_and_exist() -> None:
    known = set(json.loads((INFRA / "abbreviations.json").read_text()))
    used = set(re.findall(r"\{abbreviations\.(\w+)", (INFRA / "main.bicep").read_text()))
    assert used == known


def test_everything_is_tagged() -> None:
    untaggable = {"sub-scope"}
    for file in map(BicepFile, FILES):
        for module in file.modules.values():
            name = module.source.partition(":")[2].partition(":")[0].rpartition("/")[2]
            if module.source.startswith("br/public:") and name not in untaggable:
                assert "tags" in module.params, f"{file.path.name}: {module.symbol}"
                assert module.params["enableTelemetry"] == "false"


@pytest.mark.skipif(shutil.which("bicep") is None, reason="the Bicep CLI is not installed")
def test_official_compiler_is_content_when_it_is_installed() -> None:
    for command in ("build", "lint"):
        extra = ["--stdout"] if command == "build" else []
        done = subprocess.run(
            ["bicep", command, *extra, str(INFRA / "main.bicep")], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
