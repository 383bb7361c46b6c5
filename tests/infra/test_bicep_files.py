"""What the compiler does not ask of the Bicep files: explained parameters, no secret, tags, names."""

import json
import re

import pytest

from tests.infra.bicep import FILES, INFRA, BicepFile

every_file = pytest.mark.parametrize(
    "file", [BicepFile(path) for path in FILES], ids=lambda file: file.path.stem
)


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
