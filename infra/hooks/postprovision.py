"""azd runs this after it provisions: takes back what an earlier setting gave and none wants now.

Run it again at any time: azd hooks run postprovision
"""

import os

from arm import Arm, run
from checks import show_neighbours
from deployment import Deployment
from given import Given, take_back


def main() -> None:
    arm, deployment = Arm(os.environ), Deployment(os.environ)
    principal = deployment.output("APP_IDENTITY_PRINCIPAL_ID")
    surplus = Given(
        arm, deployment, principal, deployment.output("EVENT_SUBSCRIPTION_SUFFIX")
    ).surplus()
    print(f"No longer wanted by the settings: {len(surplus) or 'nothing'}")
    for thing in surplus:
        print(f"  {thing}")
    take_back(arm, surplus, deployment.pause_s)
    show_neighbours(arm, deployment)


if __name__ == "__main__":
    run(main)
