"""CPU that `msp run` costs the controller on a fleet of real SSH servers, beside the tools that people use.

    .venv/bin/python bench/fanout --install-peers /tmp/msp-peers      # once: a virtual environment of their own
    .venv/bin/python bench/fanout --peers /tmp/msp-peers [--hosts 200] [--repeat 3] [--only ours,pyinfra] [--json FILE]

Every figure is user and system time of the whole command, cold, with all that it starts; the servers are not counted.
The tools take turns in one run, so that what else the machine does troubles all of them alike; the median counts.
"""

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "tests" / "servers")]

import installation  # noqa: E402
import sshd_fleet  # noqa: E402

from tools import PACKAGES, PROMISED, TOOLS, Call, Ground  # noqa: E402

ANSIBLE_HOSTS = 50


def install_peers(folder: Path) -> None:
    """Make a virtual environment with the peers in it; they are no dependency of ours."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", *PACKAGES], check=True)


def versions(peers: Path) -> str:
    """Return the peers' versions in a line."""
    if not peers.exists():
        return ""
    wanted = ("parallel-ssh", "pyinfra", "fabric", "nornir", "paramiko", "ansible-core")
    code = f"from importlib.metadata import version as v; print(', '.join(n + ' ' + v(n) for n in {wanted}))"
    return subprocess.run([peers / "python", "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def spend(call: Call, folder: Path, limit: float = 600) -> tuple[dict[str, float], str]:
    """Run a call and return what it spent and what it printed."""
    result, said = folder / "spent.json", folder / "said"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MSP_", "SSH_"))}
    environment |= {"HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "", **call.environment}
    with ExitStack() as stack, said.open("wb") as out:  # pyinfra tells its results on standard error
        helper = stack.enter_context(standby(call.standby)) if call.standby else 0
        subprocess.run(
            [sys.executable, str(HERE / "spending.py"), str(result), str(limit), str(helper), *call.command],
            env=environment, cwd=folder, stdout=out, stderr=out, check=True,
        )  # fmt: skip
    return json.loads(result.read_text()), said.read_text("utf-8", "replace")


@contextmanager
def standby(folder: Path) -> Iterator[int]:
    """Start what a worker keeps beside an installation, and yield its process id once it takes orders."""
    command = [sys.executable, "-m", "msp.standby", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        while not (folder / "standby.sock").exists():
            time.sleep(0.05)
        yield process.pid


def marks(said: str, mark: str) -> int:
    """Return how many hosts and steps are done, by what a tool printed."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", said)
    return sum(re.search(mark, line) is not None for line in plain.splitlines())


def ground_of(folder: Path, hosts: int, peers: Path, stack: ExitStack) -> Ground:
    """Start a fleet and describe it to every tool."""
    fleet = stack.enter_context(sshd_fleet.running(folder / "fleet", hosts))
    known = fleet.write_known_hosts(folder / "known_hosts")
    described = folder / "fleet.json"
    described.write_text(json.dumps(json.loads(fleet.as_json()) | {"known_hosts": str(known)}))
    config, ticket = installation.plant(folder / "installation", fleet)
    return Ground(folder, described, known, fleet.write_list(folder / "hosts.txt"), config, ticket, peers)


def measure(ground: Ground, names: list[str], steps: int, repeat: int, hosts: int) -> dict[str, dict[str, float]]:
    """Let the tools take turns and return the medians, with the hosts and steps that answered in the worst turn."""
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for _ in range(repeat):
        for name in names:
            call = TOOLS[name](ground, steps)
            spent, said = spend(call, ground.folder)
            spent["ok"] = marks(said, call.mark)
            found[name].append(spent)
            print(f"  {name}, {hosts} hosts, {steps} steps: {spent['cpu']:.2f} s CPU, {spent['ok']} of"
                  f" {hosts * steps}, {spent['memory']:.0f} MB, {spent['wall']:.1f} s", file=sys.stderr)  # fmt: skip
    keys = {"cpu": statistics.median, "wall": statistics.median, "memory": max, "ok": min}
    return {name: {key: float(how(one[key] for one in turns)) for key, how in keys.items()}
            for name, turns in found.items()}  # fmt: skip


def table(results: dict[int, dict[int, dict[str, dict[str, float]]]]) -> str:
    """Return the figures as a Markdown table, one for each size of the fleet."""
    lines: list[str] = []
    for hosts, by_steps in results.items():
        counts = sorted(by_steps)
        lines.append(f"\n{hosts} hosts\n")
        lines.append(
            "| tool | " + " | ".join(f"CPU s, S={s} | answered | MB | ours / it | promised" for s in counts) + " |"
        )
        lines.append("|---|" + "---|" * 5 * len(counts))
        first = next(iter(by_steps[counts[0]]))  # the first row of ours that was measured
        for name in by_steps[counts[0]]:
            cells = []
            for place, steps in enumerate(counts):
                one, mine = by_steps[steps][name], by_steps[steps][first]
                ratio = "" if name.startswith("ours") else f"{mine['cpu'] / one['cpu']:.2f}"
                bar = f"{PROMISED[name][place]:.2f}" if name in PROMISED else ""
                cells.append(
                    f"{one['cpu']:.2f} | {one['ok']:.0f} of {hosts * steps} | {one['memory']:.0f} | {ratio} | {bar}"
                )
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--install-peers", type=Path, metavar="FOLDER")
    parser.add_argument("--peers", type=Path, metavar="FOLDER", default=Path("/nonexistent"))
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--ansible-hosts", type=int, default=ANSIBLE_HOSTS)
    parser.add_argument("--steps", default="1,5")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.install_peers:
        install_peers(options.install_peers)
        return
    peers = options.peers / "bin"
    wanted = [name for name in TOOLS if name.startswith("ours") or peers.exists()]
    if options.only:
        wanted = [name for name in wanted if name in options.only.split(",")]
    results: dict[int, dict[int, dict[str, dict[str, float]]]] = {}
    for hosts, names in (
        (options.hosts, [name for name in wanted if not name.startswith("Ansible")]),
        (options.ansible_hosts, [name for name in wanted if name.startswith(("Ansible", "ours"))]),
    ):
        if hosts == options.ansible_hosts and all(name.startswith("ours") for name in names):
            continue
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="msp-fanout-")))
            ground = ground_of(folder, hosts, peers, stack)
            for steps in map(int, options.steps.split(",")):
                results.setdefault(hosts, {})[steps] = measure(ground, names, steps, options.repeat, hosts)
        servers = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(f"  (all children, servers included: {servers.ru_utime + servers.ru_stime:.0f} s)", file=sys.stderr)
    print(table(results))
    print(f"\nPeers: {versions(peers)}.")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
