"""Nornir's threads with paramiko alone, host keys parsed once: python nornir_paramiko.py FLEET.json STEPS."""

import json
import sys
from pathlib import Path

import paramiko
from nornir.core import Nornir
from nornir.core.inventory import Defaults, Groups, Host, Hosts, Inventory
from nornir.core.task import Result, Task
from nornir.plugins.runners import ThreadedRunner

fleet, steps = json.loads(Path(sys.argv[1]).read_text()), int(sys.argv[2])
known = paramiko.HostKeys(fleet["known_hosts"])
key = paramiko.Ed25519Key.from_private_key_file(fleet["key"])
hosts = Hosts({one["name"]: Host(one["name"], hostname=one["address"], port=one["port"]) for one in fleet["hosts"]})


def work(task: Task) -> Result:
    client = paramiko.SSHClient()
    client._host_keys = known  # noqa: SLF001  there is no public way to share them
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    client.connect(task.host.hostname, task.host.port, fleet["user"], pkey=key, look_for_keys=False, allow_agent=False,
                   timeout=60, banner_timeout=60, auth_timeout=60)  # fmt: skip
    said = []
    for step in range(1, steps + 1):
        _, out, _ = client.exec_command(f"echo fx-{step}")
        said.append(out.read().decode().strip())
    client.close()
    return Result(task.host, result=said)


nornir = Nornir(Inventory(hosts, Groups(), Defaults()), runner=ThreadedRunner(num_workers=50))
for results in nornir.run(work).values():
    if not results.failed:
        print("\n".join(results[0].result))
