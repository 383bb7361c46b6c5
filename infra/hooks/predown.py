"""azd runs this before it deletes: takes away what the deployment has outside its own group.

Refuses while the group, which azd deletes as a whole, holds something that is not of this
deployment. In a terminal it asks before it removes anything. RELAY_DELETE_ALL=true says yes to
both. Run it by hand: azd hooks run predown
"""

import os
import sys

from arm import Arm, Stop, run
from checks import of_others, show_neighbours
from deployment import Deployment
from given import Given, take_back


def main() -> None:
    arm, deployment = Arm(os.environ), Deployment(os.environ)
    certain = os.environ.get("RELAY_DELETE_ALL", "").lower() == "true"
    others = of_others(arm, deployment, deployment.group)
    if others and not certain:
        raise Stop(
            "azd would delete with the resource group what is not of this deployment:\n  "
            + "\n  ".join(others),
            "move it to another group; or RELAY_DELETE_ALL=true azd down",
        )
    identity = deployment.identity(arm)
    if identity is None:
        print("Nothing of this deployment is left outside its resource group.")
        return
    show_neighbours(arm, deployment)
    outside = Given(arm, deployment, *identity).outside()
    print(f"Outside {deployment.group} this deployment has: {len(outside) or 'nothing'}")
    for thing in outside:
        print(f"  {thing}")
    if outside and sys.stdin.isatty() and not certain and input("Remove it? [y/N] ") != "y":
        raise Stop("not removed", "run azd down again")
    take_back(arm, outside, deployment.pause_s)
    show_neighbours(arm, deployment)


if __name__ == "__main__":
    run(main)
