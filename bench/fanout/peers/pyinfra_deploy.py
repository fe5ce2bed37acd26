"""Steps for pyinfra's own command."""

import os

from pyinfra.operations import server

for step in range(1, int(os.environ["FANOUT_STEPS"]) + 1):
    server.shell(name=f"step {step}", commands=[f"echo fx-{step}"])
