"""The tools that are compared: how each is called on a fleet, and how to count what it says was done."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
PACKAGES = ("parallel-ssh", "pyinfra", "fabric", "nornir", "paramiko>=4,<5", "ansible-core", "setuptools")


@dataclass(frozen=True)
class Call:
    """One command line. `mark`: what stands in a line of its output once for every host and step that is done."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    mark: str = r"^fx-\d"
    standby: Path | None = None  # the installation beside which a worker is up


@dataclass(frozen=True)
class Ground:
    """What all tools work on: a folder with the fleet described for each of them."""

    folder: Path
    fleet: Path  # JSON
    known_hosts: Path
    hosts: Path  # our own list
    config: Path  # settings of an installation whose contract covers the hosts
    ticket: int
    peers: Path  # bin folder of the peers' environment

    def python(self, script: str, steps: int) -> Call:
        """Return the call of a peer's script."""
        return Call((str(self.peers / "python"), str(HERE / "peers" / script), str(self.fleet), str(steps)))


_OURS = r'"stdout":"fx-\d'


def ours(ground: Ground, steps: int, *, recorded: bool = True, ticket: bool = False, worker: bool = False) -> Call:
    """`msp run` of a playbook that changes something, keys pinned. Where there is an installation the contract is asked
    and every step claimed, results redacted and stored, evidence written; for a ticket its log, clocks and bill follow.
    """
    playbook = ground.folder / f"ours-{steps}.yml"
    lines = ["name: fanout", 'version: "1"', "action_class: change", "steps:"]
    for step in range(1, steps + 1):
        lines += [f"  - name: step {step}", f"    do: echo fx-{step}", f"    register: step_{step}",
                  "    check:", f"      assert: step_{step}.stdout == 'fx-{step}'"]  # fmt: skip
    playbook.write_text("\n".join(lines) + "\n")
    msp = str(Path(sys.executable).with_name("msp"))
    common = ("run", str(playbook), "--hosts", str(ground.hosts), "--json")
    if recorded:
        of_ticket = ("--ticket", str(ground.ticket)) if ticket else ()
        command = (msp, "--config", str(ground.config), *common, *of_ticket)
        return Call(command, mark=_OURS, standby=ground.config.parent if worker else None)
    return Call((msp, *common), {"MSP_DATA": str(ground.folder / "nothing")}, _OURS)


def pyinfra(ground: Ground, steps: int, at_once: int | None = 50) -> Call:
    """pyinfra on 50 hosts at once, as its figures are promised, or on all of them, as it does by itself."""
    parallel = () if at_once is None else ("--parallel", str(at_once))
    files = [str(HERE / "peers" / name) for name in ("pyinfra_inventory.py", "pyinfra_deploy.py")]
    return Call(
        (str(ground.peers / "pyinfra"), "-y", *parallel, *files),
        {"FANOUT_FLEET": str(ground.fleet), "FANOUT_STEPS": str(steps)},
        r"\] .*Success",
    )


def ansible(ground: Ground, steps: int, *, kex: str = "") -> Call:
    """ansible-playbook, forks 50, pipelining, ControlPersist. kex: key exchange to use instead of OpenSSH's own."""
    fleet = json.loads(ground.fleet.read_text())
    inventory = ground.folder / "ansible.ini"
    inventory.write_text(
        "".join(f"{one['name']} ansible_host={one['address']} ansible_port={one['port']}\n" for one in fleet["hosts"])
    )
    playbook = ground.folder / f"ansible-{steps}.yml"
    tasks = "".join(f"    - ansible.builtin.command: echo fx-{step}\n" for step in range(1, steps + 1))
    playbook.write_text(f"- hosts: all\n  gather_facts: false\n  tasks:\n{tasks}")
    settings = ground.folder / "ansible.cfg"  # nobody's own settings
    settings.write_text("")
    sockets = ground.folder / "cp"
    sockets.mkdir(exist_ok=True)
    arguments = [f"-o UserKnownHostsFile={ground.known_hosts}", "-o ControlMaster=auto", "-o ControlPersist=60s"]
    if kex:
        arguments.append(f"-o KexAlgorithms={kex}")
    environment = {
        "ANSIBLE_FORKS": "50", "ANSIBLE_PIPELINING": "1", "ANSIBLE_NOCOWS": "1",
        "ANSIBLE_PRIVATE_KEY_FILE": fleet["key"], "ANSIBLE_REMOTE_USER": fleet["user"], "ANSIBLE_TIMEOUT": "60",
        "ANSIBLE_SSH_ARGS": " ".join(arguments), "ANSIBLE_SSH_CONTROL_PATH_DIR": str(sockets),
        "ANSIBLE_HOME": str(ground.folder / "ansible"), "ANSIBLE_CONFIG": str(settings),
        "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3", "PATH": f"{ground.peers}:{os.environ['PATH']}",
    }  # fmt: skip
    return Call(
        (str(ground.peers / "ansible-playbook"), "-i", str(inventory), str(playbook)), environment, r"^changed: \["
    )


TOOLS = {
    "ours": ours,
    "ours (a worker is up)": lambda ground, steps: ours(ground, steps, worker=True),
    "ours (for a ticket)": lambda ground, steps: ours(ground, steps, ticket=True),
    "ours (nothing recorded)": lambda ground, steps: ours(ground, steps, recorded=False),
    "parallel-ssh": lambda ground, steps: ground.python("parallel_ssh_client.py", steps),
    "Nornir + paramiko": lambda ground, steps: ground.python("nornir_paramiko.py", steps),
    "pyinfra": pyinfra,
    "pyinfra (all at once)": lambda ground, steps: pyinfra(ground, steps, at_once=None),
    "Fabric": lambda ground, steps: ground.python("fabric_group.py", steps),
    "Ansible": ansible,
    "Ansible (curve25519)": lambda ground, steps: ansible(ground, steps, kex="curve25519-sha256"),
}
#: Ratios that are promised: ours / peer for one step and for five, on 200 hosts (Ansible on 50).
PROMISED = {
    "parallel-ssh": (1.5, 1.5),
    "Nornir + paramiko": (0.85, 0.75),
    "pyinfra": (0.45, 0.35),
    "Fabric": (0.25, 0.25),
    "Ansible": (0.10, 0.05),
}
