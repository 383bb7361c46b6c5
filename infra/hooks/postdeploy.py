"""azd runs this after each deployment of the code: checks the functions, connects Event Grid.

Run it again at any time: azd hooks run postdeploy
"""

import os

from arm import Arm, run
from deployment import Deployment
from events import Events


def main() -> None:
    events = Events(Arm(os.environ), Deployment(os.environ))
    events.check_functions()
    events.connect()
    print("Next: put the W&B key into the vault (docs/deploy.md, 'The key').")


if __name__ == "__main__":
    run(main)
