"""Fabric's ThreadingGroup: python fabric_group.py FLEET.json STEPS."""

import json
import sys
from pathlib import Path

from fabric import Connection, ThreadingGroup

fleet, steps = json.loads(Path(sys.argv[1]).read_text()), int(sys.argv[2])
options = {"key_filename": fleet["key"], "look_for_keys": False, "allow_agent": False, "banner_timeout": 60,
           "auth_timeout": 60}  # fmt: skip
connections = []
for host in fleet["hosts"]:
    one = Connection(host["address"], user=fleet["user"], port=host["port"], connect_kwargs=options)
    one.client.load_host_keys(fleet["known_hosts"])
    connections.append(one)
group = ThreadingGroup.from_connections(connections)
for step in range(1, steps + 1):
    for result in group.run(f"echo fx-{step}", hide=True).values():
        print(result.stdout.strip())
group.close()
