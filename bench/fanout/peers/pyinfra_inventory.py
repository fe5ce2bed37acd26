"""Inventory for pyinfra's own command; the fleet is named by the environment."""

import json
import os
from pathlib import Path

fleet = json.loads(Path(os.environ["FANOUT_FLEET"]).read_text())
options = {"ssh_user": fleet["user"], "ssh_key": fleet["key"], "ssh_known_hosts_file": fleet["known_hosts"],
           "ssh_strict_host_key_checking": "yes", "ssh_look_for_keys": False, "ssh_allow_agent": False}  # fmt: skip
everyone = [
    (host["name"], {"ssh_hostname": host["address"], "ssh_port": host["port"], **options}) for host in fleet["hosts"]
]
