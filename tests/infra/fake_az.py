"""Stands in for the Azure CLI: answers `az rest` from a small world and records every call.

The world is a JSON file named by FAKE_AZ_WORLD: `functions` (names that are deployed),
`subscriptions` (URL path to its coming provisioning states; the last one stays), `puts` (URL path
to the states that a put leads to, list of lists), `deny` (method whose calls are refused),
`warning` (printed with each call), `calls`.
"""

import json
import os
import sys
from pathlib import Path


def main() -> int:
    """Carry out one command; return the exit code as az would."""
    place = Path(os.environ["FAKE_AZ_WORLD"])
    world = json.loads(place.read_text())
    arguments = sys.argv[1:]
    if arguments[:1] != ["rest"]:
        print(f"fake az knows only rest, not {arguments}", file=sys.stderr)
        return 2
    options = dict(zip(arguments[1::2], arguments[2::2], strict=True))
    known = {"--method", "--url", "--query", "--output", "--body"}
    if set(options) - known:
        print(f"unknown options {set(options) - known}", file=sys.stderr)
        return 2
    method = options["--method"]
    path, _, query = options["--url"].partition("?")
    call = {"method": method, "path": path, "query": query}
    if "--body" in options:
        call["body"] = json.loads(Path(options["--body"].removeprefix("@")).read_text())
    world["calls"].append(call)
    if "warning" in world:
        print(f"WARNING: {world['warning']}", file=sys.stderr)
    code = _answer(world, method, path)
    place.write_text(json.dumps(world))
    return code


def _answer(world: dict, method: str, path: str) -> int:
    if world.get("deny") == method:
        print('ERROR: Forbidden({"error":{"code":"AuthorizationFailed"}})', file=sys.stderr)
        return 1
    if "/eventSubscriptions/" not in path:
        if path.rpartition("/")[2] in world["functions"]:
            return 0
        left = world.setdefault("appears_after", 0)
        world["appears_after"] = left - 1
        if left == 1:
            world["functions"].append(path.rpartition("/")[2])
        return _missing()
    states = world["subscriptions"].get(path)
    if method == "put":
        planned = world["puts"].get(path) or [["Creating", "Succeeded"]]
        world["subscriptions"][path] = planned.pop(0) if len(planned) > 1 else planned[0]
        return 0
    if states is None:
        return _missing()
    if method == "delete":
        del world["subscriptions"][path]
        return 0
    print(states.pop(0) if len(states) > 1 else states[0])
    return 0


def _missing() -> int:
    print('ERROR: Not Found({"error":{"code":"ResourceNotFound"}})', file=sys.stderr)
    return 3


if __name__ == "__main__":
    sys.exit(main())
