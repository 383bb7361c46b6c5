"""What Bicep, hooks and host.json say of the app is what its code says of itself."""

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import cast, get_args

import azure.functions as func
from azure.functions.decorators.queue import QueueTrigger

from finetune_wandb.flows.app import Deps
from finetune_wandb.model.messages import (
    ArtifactMessage,
    BackfillMessage,
    ReconcileMessage,
    RelayMessage,
)
from handlers.triggers import blueprint
from tests.fakes import setting_defaults as defaults
from tests.infra.bicep import INFRA, ROOT, entries, read, string, strings, text, walk

CODE = [*ROOT.glob("*.py")] + [
    path for folder in ("handlers", "finetune_wandb") for path in (ROOT / folder).rglob("*.py")
]


def _texts(path: Path) -> Iterator[tuple[str, str]]:
    """Yield name and value of each module-level text constant."""
    for node in ast.parse(path.read_text()).body:
        target = node.target if isinstance(node, ast.AnnAssign) else None
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target = node.targets[0]
        value = getattr(node, "value", None)
        if not isinstance(target, ast.Name) or not isinstance(value, ast.Constant):
            continue
        if isinstance(value.value, str):
            yield target.id, value.value


@cache
def _functions() -> dict[str, func.Function]:
    """Return the app's functions by name, as the host indexes them."""
    app = func.FunctionApp()
    app.register_functions(blueprint(cast(Deps, None)))
    return {one.get_function_name(): one for one in app.get_functions()}


def function_names() -> set[str]:
    return set(_functions())


def _tables() -> set[str]:
    """Return the tables of clients/: what its modules open as `Table`, `Rows` or a kind of these."""
    return {
        argument.value
        for path in (ROOT / "finetune_wandb" / "clients").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id.endswith(("Table", "Rows"))
        for argument in node.args
        if isinstance(argument, ast.Constant)
    }


def _settings_block() -> dict[str, str]:
    variable = read("main.bicep").variables["settings"]
    block = next(node for node in walk(variable) if node.type == "object")
    return {name: text(value) for name, value in entries(block).items()}


def test_default_settings_are_the_code_s() -> None:
    listed = json.loads((INFRA / "app-settings.json").read_text())
    expected = {
        name: value
        for name, value in defaults().items()
        if value is not None and name != "SANDBOX_URL"  # only of laptops
    }
    assert listed == expected, (
        f"infra/app-settings.json should be:\n{json.dumps(expected, indent=2)}"
    )


def test_settings_of_the_app_are_exactly_those_it_reads() -> None:
    listed = json.loads((INFRA / "app-settings.json").read_text())
    assert set(listed) | set(_settings_block()) == set(defaults()) - {"SANDBOX_URL"}


def test_settings_without_default_are_computed() -> None:
    needed = {name for name, value in defaults().items() if value is None}
    assert needed <= set(_settings_block())


def test_parameter_default_is_the_setting_s_when_it_is_passed_on() -> None:
    params = read("main.bicep").params
    known = defaults()
    passed = {name: value for name, value in _settings_block().items() if value in params}
    assert len(passed) >= 10
    for name, param in passed.items():
        assert (params[param].default or "").strip("'") == known[name], name


def test_sample_lists_the_same_settings() -> None:
    sample = json.loads((ROOT / "local.settings.sample.json").read_text())["Values"]
    host = {"FUNCTIONS_WORKER_RUNTIME", "AzureWebJobsStorage"}
    assert set(sample) - host == set(defaults())


def test_platform_settings_are_read_by_host_or_code() -> None:
    file = read("modules/app.bicep")
    platform = set(entries(file.variables["platformSettings"]))
    assert not platform & set(defaults())
    # Flex Consumption refuses these.
    assert not platform & {
        "FUNCTIONS_WORKER_RUNTIME",
        "FUNCTIONS_EXTENSION_VERSION",
        "WEBSITE_RUN_FROM_PACKAGE",
        "AzureWebJobsStorage",
    }


def test_storage_of_the_settings_is_understood_by_the_code() -> None:
    from finetune_wandb.clients.storage.service import read_address

    platform = entries(read("modules/app.bicep").variables["platformSettings"])
    filled = {
        name: string(value).replace("${storageName}", "st1").replace("${storageSuffix}", "suffix")
        for name, value in platform.items()
    }
    address = read_address(filled)
    assert address.table_url == "https://st1.table.suffix"
    assert address.queue_url == "https://st1.queue.suffix"
    assert address.connection_string == ""


def test_queues_of_the_code_exist() -> None:
    sent = {
        message.queue
        for message in (
            *get_args(ReconcileMessage),
            RelayMessage,
            BackfillMessage,
            ArtifactMessage,
        )
    }
    triggers = [function.get_trigger() for function in _functions().values()]
    triggered = {trigger.queue_name for trigger in triggers if isinstance(trigger, QueueTrigger)}
    assert sent == triggered
    declared = set(strings(read("modules/storage.bicep").variables["queueNames"]))
    assert declared == triggered | {f"{name}-poison" for name in triggered}


def test_tables_of_the_code_exist() -> None:
    declared = set(strings(read("modules/storage.bicep").variables["tableNames"]))
    assert declared == _tables()


def test_containers_are_those_of_package_and_dead_letters() -> None:
    storage = read("modules/storage.bicep")
    assert strings(storage.variables["deadLetterContainer"]) == ["dead-letters"]
    container = read("modules/dead-letter-access.bicep").resources["container"]
    assert string(container.properties["name"]) == "dead-letters"
    listed = text(storage.variables["containerNames"])
    assert re.findall(r"\w+", listed) == ["deploymentContainer", "deadLetterContainer"]


def test_variables_of_the_hooks_are_outputs_of_the_template() -> None:
    used = {
        name
        for path in (INFRA / "hooks").glob("*.py")
        for name in re.findall(r'output\(\s*"(\w+)"|\("([A-Z]\w+_IDS)"', path.read_text())
        for name in name
    } - {""}
    assert len(used) >= 8
    assert used <= read("main.bicep").outputs
