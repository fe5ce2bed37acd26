"""Bacula: a director, a storage and a file daemon of the drill's own, with a good backup and later, worse ones."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from msp.backup import manifest
from msp.backup.drill import Planted
from msp.backup.drills import director
from msp.backup.drills.damage import cut, flip
from msp.backup.drills.files import ASKED, SOURCE, office, settle
from msp.backup.engines.bacula_console import GOOD, QUEUED, Console
from msp.backup.process import Runner
from msp.backup.scratch import Scratch
from msp.errors import StepFailed

LATER = ("stale", "lost mount")  # of the faults of a source; each takes a backup job of its own


@contextmanager
def volumes(runner: Runner, space: Scratch, now: datetime) -> Iterator[Sequence[Planted]]:
    """Yield faults in the volume, whose pristine copy is put back before each, and in what was backed up."""
    folder = space.folder("bacula")
    source, listed, pristine = folder / "data", folder / "manifest.json", folder / "pristine"
    office(source, now)
    settle(source, now)
    with listed.open("w", encoding="utf-8") as out:
        manifest.write(manifest.walk(source), out)
    with director.running(folder / "server", source, runner) as server:
        _back_up(server)
        volume = next(server.volumes.iterdir())
        first = volume.stat().st_size
        for name in LATER:
            shutil.rmtree(source)
            office(source, now)
            SOURCE[name][0](source, now)
            settle(source, now)
            _back_up(server)
        shutil.copyfile(volume, pristine)
        where = {"repo": str(server.console), "client": director.CLIENT, "root": str(source).lstrip("/")}

        def plant(
            _: Path, job: int = 1, damage: Callable[[Path], None] | None = None, compare: bool = True
        ) -> Mapping[str, Any]:
            shutil.copyfile(pristine, volume)
            if damage:
                damage(volume)
            expect: dict[str, Any] = {"sqlite": ASKED} | ({"manifest": str(listed)} if compare else {})
            return {**where, "jobid": job, "expect": expect}

        held = frozenset({"repository"})
        yield [
            Planted("good", plant),
            Planted("bit flip", partial(plant, damage=lambda file: flip(file, first // 2)), held),
            Planted("cut short", partial(plant, damage=lambda file: cut(file, first // 2)), held),
            Planted("lost volume", partial(plant, damage=Path.unlink), frozenset({"missing"})),
            *(
                Planted(name, partial(plant, job=number, compare=SOURCE[name][2]), SOURCE[name][1])
                for number, name in enumerate(LATER, 2)
            ),
        ]


def _back_up(server: director.Bacula) -> None:
    queued = QUEUED.search(server.back_up())
    job = Console(server.runner, server.console).job(int(queued[1])) if queued else None
    if job is None or job.status not in GOOD:
        said = f"its job ended with status {job.status}" if job else "no job was queued"
        raise StepFailed(f"The drill could not write its backup: {said}.", advice="Look at Bacula's own messages.")
