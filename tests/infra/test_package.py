"""The deployment zip: what is in it, and that the app starts from it with its own packages only."""

import ast
import importlib.metadata
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dev.tools import package
from tests.infra.bicep import ROOT
from tests.infra.test_matches_code import function_names

PARTS = {"handlers", "finetune_wandb"}
ROOT_FILES = {
    "function_app.py",
    "host.json",
    "requirements.txt",
    ".funcignore",
}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    package.build(folder / "app.zip")
    with zipfile.ZipFile(folder / "app.zip") as archive:
        archive.extractall(folder / "app")
    return folder / "app"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an interpreter that sees what requirements.txt pulls in, and nothing else.

    The distributions are linked file by file from this environment, which is what installing
    them again would give, without the minute that it takes (`make package PROVE=1` does that).
    """
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=False)
    site = next((folder / "lib").glob("python*/site-packages"))
    for distribution in _needed((ROOT / "requirements.txt").read_text().splitlines()):
        for file in distribution.files or ():
            source = Path(str(distribution.locate_file(file)))
            if ".." in file.parts or file.suffix == ".pth" or not source.exists():
                continue
            target = site / file
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                target.symlink_to(source)
    return folder / "bin" / "python"


def _needed(lines: list[str]) -> Iterator[importlib.metadata.Distribution]:
    open_: list[Requirement] = [
        Requirement(line) for line in lines if line and not line.startswith("#")
    ]
    seen: set[tuple[str, frozenset[str]]] = set()
    while open_:
        wanted = open_.pop()
        mark = (canonicalize_name(wanted.name), frozenset(wanted.extras))
        if mark in seen:
            continue
        seen.add(mark)
        distribution = importlib.metadata.distribution(wanted.name)
        yield distribution
        for line in distribution.requires or ():
            needed = Requirement(line)
            extras = wanted.extras or {""}
            if needed.marker is None or any(
                needed.marker.evaluate({"extra": extra}) for extra in extras
            ):
                open_.append(needed)


def test_zip_holds_the_app_and_nothing_else() -> None:
    names = package.packed_files()
    assert {name.partition("/")[0] for name in names if "/" in name} == PARTS
    assert {name for name in names if "/" not in name} == ROOT_FILES - {".funcignore"}
    assert all(
        name.endswith((".py", ".json", ".toml", ".txt", ".html", ".css", ".js", ".svg"))
        for name in names
    )


def test_zip_is_small_and_the_same_when_built_twice(tmp_path: Path) -> None:
    package.build(tmp_path / "a.zip")
    package.build(tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert (tmp_path / "a.zip").stat().st_size < 1_000_000


def test_ignored_folder_is_left_out_when_funcignore_names_it(tmp_path: Path) -> None:
    for name in ("app.py", "tests/test_a.py", "kept/deep/b.py", ".env", "local.settings.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / ".funcignore").write_text("# a comment\n.*\ntests/\nlocal.settings*.json\n")
    assert package.packed_files(tmp_path) == ["app.py", "kept/deep/b.py"]


def test_nothing_is_packed_when_there_is_no_funcignore(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("x")
    with pytest.raises(FileNotFoundError):
        package.build(tmp_path / "out.zip", tmp_path)


def test_app_starts_when_only_its_own_packages_are_there(unpacked: Path, python: Path) -> None:
    found = package.probe(python, unpacked)
    assert set(found["functions"]) == function_names()
    # A cold start pays for what is imported: clients load their SDKs when first used.
    assert found["loaded"] == []
    assert found["import_s"] < 10


def test_probe_fails_when_a_package_is_missing(unpacked: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    with pytest.raises(subprocess.CalledProcessError) as caught:
        package.probe(tmp_path / "bare" / "bin" / "python", unpacked)
    assert "No module named 'azure'" in caught.value.stderr


def test_every_import_is_found_when_only_its_own_packages_are_there(
    unpacked: Path, python: Path
) -> None:
    # Most SDKs are imported inside functions, which starting the app does not reach.
    wanted = sorted(
        {
            name
            for path in unpacked.rglob("*.py")
            for node in ast.walk(ast.parse(path.read_text()))
            for name in _imported(node)
        }
    )
    assert "azure.keyvault.secrets.aio" in wanted
    probe = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    try: importlib.import_module(name)\n"
        "    except ModuleNotFoundError as error: print(name, error)\n"
    )
    done = subprocess.run(
        [str(python), "-s", "-c", probe, *wanted], cwd=unpacked, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module]
    return []


def test_clean_interpreter_lacks_what_only_the_laptop_has(python: Path) -> None:
    done = subprocess.run(
        [str(python), "-s", "-c", "import pytest"], capture_output=True, text=True
    )
    assert done.returncode != 0
    assert sys.prefix not in done.stdout
