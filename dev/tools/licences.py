"""`python -m dev.tools.licences`: the licence of everything that is installed in Azure with the app.

Reads what the installed packages say of themselves, from requirements.txt on through all that
they require. Ends with 1 for a licence that is unknown here or would bind those who deploy the app.
"""

import re
import sys
from collections.abc import Iterable
from importlib import metadata
from typing import Final

from packaging.requirements import Requirement

from dev.tools.local_stack import ROOT

PERMISSIVE: Final = {
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "HPND",
    "ISC",
    "MIT",
    "MIT-0",
    "PSF-2.0",
    "Unlicense",
    "0BSD",
}
FILE_COPYLEFT: Final = {"MPL-2.0"}
"""Binds changes of its own files only; used unchanged, as here, it asks for nothing."""
_NAMES: Final = {
    "apache": "Apache-2.0",
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "apache-2.0 license": "Apache-2.0",
    "3-clause bsd license": "BSD-3-Clause",
    "bsd": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "bsd 3-clause": "BSD-3-Clause",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
    "psf": "PSF-2.0",
}
"""Words that packages use instead of SPDX identifiers."""


def required(names: Iterable[str]) -> list[str]:
    """Return these packages and all that they require here, sorted; absent ones are left out."""
    found: dict[str, None] = {}
    todo = list(names)
    while todo:
        wanted = Requirement(todo.pop())
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        extras = wanted.extras or {""}
        if name in found or not (
            wanted.marker is None or any(wanted.marker.evaluate({"extra": one}) for one in extras)
        ):
            continue
        try:
            inner = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        found[name] = None
        todo += [
            line
            for line in inner
            if (marker := Requirement(line).marker) is None
            or any(marker.evaluate({"extra": one}) for one in extras)
        ]
    return sorted(found)


def licence_of(name: str) -> str:
    """Return a package's licence as an SPDX expression, or the words it uses for it."""
    about = metadata.metadata(name)
    if expression := about.get("License-Expression"):
        return str(expression)
    classified = [
        line.rpartition("::")[2].strip()
        for line in about.get_all("Classifier", [])
        if line.startswith("License ::") and line.rpartition("::")[2].strip() != "OSI Approved"
    ]
    stated = (about.get("License") or "").strip().partition("\n")[0]
    for text in (stated, *classified):
        if known := _known(text):
            return known
    return stated or " ".join(classified) or "none stated"


def _known(text: str) -> str:
    if text in PERMISSIVE | FILE_COPYLEFT:
        return text
    return _NAMES.get(text.lower(), "")


def is_fine(licence: str) -> bool:
    """Say whether an SPDX expression can be read so that it does not bind those who deploy the app."""
    tokens = re.findall(r"[()]|[^\s()]+", licence)

    def either() -> bool:
        fine = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            other = both()
            fine = fine or other
        return fine

    def both() -> bool:
        fine = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            other = one()
            fine = fine and other
        return fine

    def one() -> bool:
        word = tokens.pop(0) if tokens else ""
        if word != "(":
            return word in PERMISSIVE | FILE_COPYLEFT
        fine = either()
        return bool(tokens) and tokens.pop(0) == ")" and fine

    return either() and not tokens


def main(arguments: list[str]) -> int:
    """Print the list; return 1 when a licence is not one of those that are known to be fine."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    licences = {name: licence_of(name) for name in required(wanted)}
    bad = {name: licence for name, licence in licences.items() if not is_fine(licence)}
    counts: dict[str, int] = {}
    for licence in licences.values():
        counts[licence] = counts.get(licence, 0) + 1
    if "--list" in arguments:
        for name, licence in licences.items():
            print(f"{name}\t{licence}")
    print(f"licences of {len(licences)} runtime packages: {dict(sorted(counts.items()))}")
    for name, licence in bad.items():
        print(f"{name}: {licence} is not known to be fine (dev/tools/licences.py)", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
