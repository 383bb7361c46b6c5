"""Checks, before `azd up`, what would fail or touch what belongs to others. Reads only.

Takes the values of the azd environment that is selected; needs infra/hooks/requirements.txt. Exit
codes: 0 nothing found, 1 problems, each with its cause and remedy.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

_UNIQUE: Final = {
    "microsoft.keyvault/vaults",
    "microsoft.storage/storageaccounts",
    "microsoft.web/sites",
}
_HOOKS: Final = Path(__file__).resolve().parents[1] / "hooks"
# azd runs hooks in their own folder, so they import each other by their bare names.
sys.path.insert(0, str(_HOOKS))

from arm import Arm, Json, Stop, run  # noqa: E402
from checks import GUARDS, SURVEYS, Check, Problem, problems  # noqa: E402
from deployment import INFRA, Deployment  # noqa: E402


def main() -> None:
    """Print the result of each check; exit with 1 if there was a problem."""
    form = argparse.RawDescriptionHelpFormatter
    argparse.ArgumentParser(
        prog="python -m infra.commands.preflight", description=__doc__, formatter_class=form
    ).parse_args()
    environ = os.environ | _azd_values()
    arm, deployment = Arm(environ), Deployment(environ)
    checks: tuple[Check, ...] = (*GUARDS, *SURVEYS, check_what_if)
    failed = False
    for check in checks:
        found = list(problems(check, arm, deployment))
        failed = failed or bool(found)
        print(f"{'problem' if found else 'ok':<8} {check.__doc__}")
        for one in found:
            print(f"         {one.cause}\n         remedy: {one.remedy}")
    sys.exit(1 if failed else 0)


def _azd_values() -> dict[str, str]:
    """Return the values of the selected azd environment. Raises Stop when there is none."""
    azd = shutil.which("azd")
    if azd is None:
        raise Stop("azd is not on the PATH", "install the Azure Developer CLI")
    command = [azd, "env", "get-values", "--output", "json"]
    done = subprocess.run(command, cwd=INFRA.parent, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Stop(f"azd has no values: {done.stderr.strip()}", "azd env new NAME")
    values: dict[str, str] = json.loads(done.stdout)
    return values


def check_what_if(arm: Arm, deployment: Deployment) -> Iterator[Problem]:
    """Resource Manager and the policies of the subscription accept it, and its names are free."""
    compiler = _compiler()
    if compiler is None:
        print("skipped: what-if needs a Bicep compiler (BICEP, or bicep on the PATH)")
        return
    template = json.loads(
        subprocess.run(
            [compiler, "build", "--stdout", str(INFRA / "main.bicep")],
            cwd=INFRA.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
        ).stdout
    )
    types = {name: one["type"] for name, one in template["parameters"].items() if "type" in one}
    given = {
        name: {"value": _typed(value, types.get(name, "string"))}
        for name, value in deployment.parameters.items()
    }
    path = f"{deployment.subscription}/providers/Microsoft.Resources/deployments/{deployment.name}"
    said = arm.post(
        f"{path}-preflight/whatIf",
        {
            "location": deployment.location,
            "properties": {"mode": "Incremental", "template": template, "parameters": given},
        },
    )
    for cause in _causes(said.get("error") or {}):
        yield Problem(cause, "docs/troubleshooting.md, 'Deployment'; or an exemption of the policy")
    for change in (said.get("properties") or {}).get("changes") or ():
        if change["changeType"] == "Create":
            yield from _taken(arm, deployment, change["resourceId"])


def _taken(arm: Arm, deployment: Deployment, resource_id: str) -> Iterator[Problem]:
    """Yield a problem if a new resource needs a name that must be unique in Azure and is not."""
    kind = "/".join(resource_id.split("/")[6:-1])
    if kind.lower() not in _UNIQUE:
        return
    path = f"{deployment.subscription}/providers/{kind.partition('/')[0]}/checkNameAvailability"
    name = resource_id.rpartition("/")[2]
    said = arm.post(path, {"name": name, "type": kind})
    if not said["nameAvailable"]:
        yield Problem(
            f"the name {name} is taken: {said.get('message')}", "azd env new, another NAME"
        )


def _compiler() -> str | None:
    own = shutil.which("bicep", path=str(Path.home() / ".azd" / "bin"))
    return os.environ.get("BICEP") or shutil.which("bicep") or own


def _typed(value: Any, kind: str) -> Any:
    """Return a value of azd's environment, which is text, as the template's parameter wants it."""
    return (
        json.loads(value.lower()) if kind in ("bool", "int") and isinstance(value, str) else value
    )


def _causes(error: Json) -> Iterator[str]:
    """Yield the innermost errors: the outer ones only say that there are some."""
    details = error.get("details") or []
    for one in details:
        yield from _causes(one)
    if error and not details:
        yield f"{error.get('code')}: {error.get('message')}"


if __name__ == "__main__":
    run(main)
