"""parallel-ssh, its own event loop over libssh2: python parallel_ssh_client.py FLEET.json STEPS."""

import json
import sys
from pathlib import Path

from pssh.clients import ParallelSSHClient
from pssh.config import HostConfig

fleet, steps = json.loads(Path(sys.argv[1]).read_text()), int(sys.argv[2])
client = ParallelSSHClient(
    [host["address"] for host in fleet["hosts"]],
    host_config=[HostConfig(port=host["port"]) for host in fleet["hosts"]],
    user=fleet["user"],
    pkey=fleet["key"],
    pool_size=len(fleet["hosts"]),
    num_retries=3,
)
for step in range(1, steps + 1):
    output = client.run_command(f"echo fx-{step}")
    client.join(output)
    for host in output:
        for line in host.stdout:
            print(line)
