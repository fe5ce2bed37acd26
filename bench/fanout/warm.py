"""What a step costs a worker whose connections are warm, beside the first time: CPU of this process alone.

    .venv/bin/python bench/fanout/warm.py [--hosts 200] [--rounds 5] [--wire]
    .venv/bin/python bench/fanout/warm.py --peers /tmp/msp-peers [--turns 5]

With --wire only the commands are measured: a line on each host over its connection, nothing recorded. With --peers it
takes turns with cold commands of the tools against which warm connections have an aim.

A worker keeps connections from one run to the next. Each round is a whole run on every host, with pins and window
checked before every step, every step claimed, results redacted and stored with evidence, as `msp worker` does it. What
follows for its ticket (log, clocks, bill), which a cold `msp run` has only with --ticket, is told apart.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "tests" / "servers")]

import installation  # noqa: E402
import sshd_fleet  # noqa: E402
from sqlalchemy import select  # noqa: E402

from msp import db, memory  # noqa: E402
from msp.assets.models import ConfigurationItem  # noqa: E402
from msp.flows import driving, run_told, runs  # noqa: E402
from msp.people.access import Actor  # noqa: E402
from msp.remote import playbook  # noqa: E402
from msp.remote.ssh import SshTransport  # noqa: E402
from msp.remote.target import Credential, Target  # noqa: E402
from msp.settings import load  # noqa: E402
from tools import Ground, ours  # noqa: E402

ANNA = Actor("anna@provider.example", frozenset({"technician"}))
#: A warm host and step, of the cold one of that tool; pyinfra on 50 hosts at once, and on all as we have them.
AIMS = {"parallel-ssh": 0.3, "pyinfra": 0.08, "pyinfra (all at once)": 0.08}
MINUTE = timedelta(minutes=1)


async def wire(fleet: sshd_fleet.Fleet, rounds: int) -> list[float]:
    """Run a line on every host, again and again, and return the milliseconds of CPU a host of each round."""
    transport, places = SshTransport(), asyncio.Semaphore(playbook.AT_ONCE)
    credential = Credential(fleet.user, key_file=fleet.key_file)

    async def one(host: sshd_fleet.Host) -> None:
        target = Target(host.name, host.address, host.port, credential, (host.host_key,))
        async with places, transport.open(target) as shell:
            assert (await shell.run("echo fx-1", timeout=MINUTE)).stdout == b"fx-1\n"

    spent = []
    for _ in range(rounds):
        began = time.process_time()
        await asyncio.gather(*map(one, fleet.hosts))
        spent.append((time.process_time() - began) * 1000 / len(fleet.hosts))
    await transport.close()
    return spent


def beside(peers: Path, hosts: int, turns: int) -> None:
    """Print a line for each turn: warm runs, without what follows for the ticket, beside cold tools. Medians follow."""
    ratios: dict[str, list[float]] = {name: [] for name in AIMS}
    with tempfile.TemporaryDirectory(prefix="msp-beside-") as name:
        found = Path(name) / "found.json"
        common = ("--hosts", str(hosts), "--steps", "1", "--json", str(found))
        for turn in range(1, turns + 1):
            ask = [sys.executable, str(HERE / "warm.py"), "--rounds", "9", *common]
            subprocess.run(ask, check=True, stdout=subprocess.DEVNULL)
            told = json.loads(found.read_text())["1"]
            ours_warm = told["warm"] - told["ticket"]
            line = f"turn {turn}: warm {ours_warm:.2f} ms a host"
            ask = [sys.executable, str(HERE), "--peers", str(peers), "--repeat", "2", "--only", ",".join(AIMS), *common]
            subprocess.run(ask, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for tool, spent in json.loads(found.read_text())[str(hosts)]["1"].items():
                cold = spent["cpu"] * 1000 / hosts
                ratios[tool].append(ours_warm / cold)
                line += f"; {tool} {cold:.1f}: {ours_warm / cold:.3f}"
            print(line, flush=True)
    for tool, aim in AIMS.items():
        print(f"{tool}: {statistics.median(ratios[tool]):.3f} in the median, aim {aim}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--wire", action="store_true")
    parser.add_argument("--steps", default="1,5")
    parser.add_argument("--peers", type=Path, metavar="FOLDER")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.peers:
        beside(options.peers, options.hosts, options.turns)
        return
    with tempfile.TemporaryDirectory(prefix="msp-warm-") as name:
        folder = Path(name)
        with sshd_fleet.running(folder / "fleet", options.hosts) as fleet:
            if options.wire:
                memory.settle()
                spent = driving.WIRES.run(wire(fleet, options.rounds))
                warm = statistics.median(spent[1:])
                print(f"{options.hosts} hosts, the wire alone, ms a host: first {spent[0]:.2f}, warm {warm:.2f}")
                return
            config, _ = installation.plant(folder / "installation", fleet)
            settings = load(config, {})
            db.use(settings.database_url)
            memory.settle()  # as a worker does
            told: list[float] = []
            follow = run_told.tell

            def tell(*given: Any) -> None:
                began = time.thread_time()
                follow(*given)
                told.append((time.thread_time() - began) * 1000 / options.hosts)

            run_told.tell = tell
            found: dict[int, dict[str, float]] = {}
            for steps in map(int, options.steps.split(",")):
                ours(Ground(folder / "installation", folder, folder, folder, config, 0, folder), steps)
                spent = []
                told.clear()
                for _ in range(options.rounds):
                    with db.begin() as session:
                        ids = list(session.scalars(select(ConfigurationItem.id)))
                        run_id = runs.request_run(
                            session, playbook=f"ours-{steps}", asset_ids=ids, actor=ANNA, own=settings.playbooks
                        ).id
                    began = time.process_time()
                    driving.drive(settings, run_id, 0)
                    spent.append((time.process_time() - began) * 1000 / options.hosts)
                    with db.read() as session:
                        assert runs.get(session, run_id, ANNA).state == "succeeded"
                warm, of_ticket = statistics.median(spent[1:]), statistics.median(told[1:])
                what = f"{options.hosts} hosts, {steps} steps, ms a host: first {spent[0]:.2f}, warm {warm:.2f}"
                print(f"{what}, of which for the ticket {of_ticket:.3f}")
                found[steps] = {"first": spent[0], "warm": warm, "ticket": of_ticket}
            if options.json:
                options.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
