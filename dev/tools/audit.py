"""`python -m dev.tools.audit`: known vulnerabilities of the installed packages, by pip-audit.

The advisories are asked for over the internet. Where they cannot be had this says so and ends
with 0: a machine without internet must be able to run the checks.
"""

import json
import subprocess
import sys
from typing import Final

_SECONDS: Final = 120


def main() -> int:
    """Return 1 when a package has a known vulnerability."""
    command = [sys.executable, "-m", "pip_audit", "--local", "--skip-editable", "--format", "json"]
    command += ["--progress-spinner", "off", "--timeout", "10"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
        packages = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return _not_audited(f"no answer in {_SECONDS} s")
    except (ValueError, KeyError):
        lines = done.stderr.strip().splitlines()
        return _not_audited(lines[-1][:200] if lines else f"exit code {done.returncode}")
    # An index without advisories makes pip-audit skip every package and call that a success.
    asked = [item for item in packages if "skip_reason" not in item]
    if not asked:
        return _not_audited(f"all {len(packages)} packages were skipped")
    found = [
        f"{item['name']} {item['version']}: {one['id']}, fixed in"
        f" {', '.join(one['fix_versions']) or 'no version'}"
        for item in asked
        for one in item["vulns"]
    ]
    for line in found:
        print(line, file=sys.stderr)
    skipped = len(packages) - len(asked)
    print(f"vulnerabilities: {len(found)} in {len(asked)} packages; {skipped} could not be asked")
    return 1 if found else 0


def _not_audited(why: str) -> int:
    print(f"vulnerabilities: NOT AUDITED, the advisories could not be had ({why})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
