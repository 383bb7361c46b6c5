"""Builds the deployment zip, and proves that the app starts from it.

Decides which files travel (.funcignore does, nothing else) and prints what the zip weighs. What
Azure installs beside them is requirements.txt; the proof installs that into an empty virtual
environment and nothing more.

Run: python -m dev.tools.package [--prove] [--output FILE]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pathspec import GitIgnoreSpec

ROOT = Path(__file__).resolve().parents[2]
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time of every entry: the same files make the same zip, byte for byte."""

_PROBE = """
import json, sys, time
began = time.perf_counter()
import function_app
imported = time.perf_counter() - began
found = sorted(item.get_function_name() for item in function_app.app.get_functions())
heavy = sorted(name for name in ("wandb", "aiohttp", "azure.mgmt", "azure.data") if name in sys.modules)
print(json.dumps({"import_s": imported, "functions": found, "loaded": heavy}))
"""


def packed_files(root: Path = ROOT) -> list[str]:
    """Return the paths that .funcignore lets through, relative to `root`, with /, sorted.

    Raises FileNotFoundError where there is no .funcignore: then everything would travel.
    """
    lines = (root / ".funcignore").read_text().splitlines()
    spec = GitIgnoreSpec.from_lines(lines)
    return sorted(_kept(root, root, spec))


def _kept(folder: Path, root: Path, spec: GitIgnoreSpec) -> Iterator[str]:
    for item in folder.iterdir():
        name = item.relative_to(root).as_posix()
        if item.is_dir():
            # Ignored folders are not entered: .venv alone has tens of thousands of files.
            if not spec.match_file(name + "/"):
                yield from _kept(item, root, spec)
        elif not spec.match_file(name):
            yield name


def build(output: Path, root: Path = ROOT) -> list[str]:
    """Write the zip to `output`; return the paths that are in it."""
    names = packed_files(root)
    output.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in names:
            entry = zipfile.ZipInfo(name, date_time=_EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, (root / name).read_bytes())
    return names


def probe(python: Path, folder: Path) -> dict[str, Any]:
    """Import and index the app that is unpacked in `folder`.

    Returns `import_s` (seconds of the first import, byte code not yet cached), `functions`
    (names, sorted) and `loaded` (heavy libraries that the import already pulled in). Raises
    CalledProcessError when the app does not start; its output says why.
    """
    # Only what the caller of a function host would have: no path of ours, no site of the user's.
    environ = {
        name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "SYSTEMROOT")
    }
    done = subprocess.run(
        [str(python), "-s", "-c", _PROBE],
        cwd=folder,
        env=environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def prove(archive: Path) -> dict[str, Any]:
    """Install requirements.txt of the zip into an empty environment and start the app there."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        with zipfile.ZipFile(archive) as content:
            content.extractall(folder / "app")
        venv.create(folder / "venv", with_pip=True)
        python = folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
        subprocess.run(
            [
                str(python),
                *("-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
                *("-r", str(folder / "app" / "requirements.txt")),
            ],
            check=True,
        )
        return probe(python, folder / "app")


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, print what it weighs, prove where asked; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m dev.tools.package", description="build the deployment zip"
    )
    parser.add_argument("--output", type=Path, default=ROOT / ".dist" / "app.zip")
    parser.add_argument(
        "--prove", action="store_true", help="start the app from the zip in an empty environment"
    )
    options = parser.parse_args(arguments)
    names = build(options.output)
    plain = sum((ROOT / name).stat().st_size for name in names)
    print(
        f"{options.output}: {options.output.stat().st_size / 1024:.0f} KiB"
        f" ({len(names)} files, {plain / 1024:.0f} KiB unpacked)"
    )
    if not options.prove:
        return 0
    try:
        found = prove(options.output)
    except subprocess.CalledProcessError as error:
        print(error.stderr or error, file=sys.stderr)
        print("the app does not start from the zip", file=sys.stderr)
        return 1
    print(
        f"started in an empty environment: {len(found['functions'])} functions,"
        f" cold import {found['import_s']:.2f} s, heavy libraries loaded by it:"
        f" {', '.join(found['loaded']) or 'none'}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
