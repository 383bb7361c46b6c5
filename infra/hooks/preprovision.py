"""azd runs this before it provisions: refuses what would touch resources of others, or must fail.

Reads only. `python -m infra.commands.preflight` checks more, and takes longer.
"""

import os

from arm import Arm, Stop, run
from checks import GUARDS, problems, show_neighbours
from deployment import Deployment


def main() -> None:
    arm, deployment = Arm(os.environ), Deployment(os.environ)
    found = [one for check in GUARDS for one in problems(check, arm, deployment)]
    if found:
        raise Stop(
            "\n".join(f"{one.cause}\n  remedy: {one.remedy}" for one in found),
            "then azd provision again; nothing was changed",
        )
    show_neighbours(arm, deployment)


if __name__ == "__main__":
    run(main)
