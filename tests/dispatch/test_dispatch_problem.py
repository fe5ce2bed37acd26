import copy
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from dispatch_problems import Json, problem

from msp.dispatch.problem import from_json
from msp.dispatch.solve import solve
from msp.errors import Misconfigured

BASE = problem(1, visits=6, technicians=2, days=1)
Change = Callable[[Json], Any]
WRONG: dict[str, tuple[Change, str]] = {
    "format": (lambda p: p.update(format="x"), "format is 'x'"),
    "no visits field": (lambda p: p.pop("visits"), "visits is missing"),
    "visits no list": (lambda p: p.update(visits={}), "visits is {}"),
    "travel kind": (lambda p: p["travel"].update(kind="fly"), "travel.kind"),
    "speed zero": (lambda p: p["travel"].update(km_per_min=0), "travel.km_per_min"),
    "coordinates missing": (lambda p: p["locations"][2].pop("x"), "locations[2].x is missing"),
    "coordinate text": (lambda p: p["locations"][2].update(y="north"), "locations[2].y"),
    "location twice": (lambda p: p["locations"][1].update(id="L0"), "locations[1].id"),
    "shift ends before it begins": (
        lambda p: p["technicians"][0]["shifts"][0].update(end=1),
        "technicians[0].shifts[0] ends",
    ),
    "overtime negative": (lambda p: p["technicians"][0]["shifts"][0].update(overtime=-1), "overtime"),
    "break backwards": (
        lambda p: p["technicians"][0]["shifts"][0].update({"break": {"duration": 30, "earliest": 9, "latest": 8}}),
        "break",
    ),
    "unknown start place": (lambda p: p["technicians"][0]["shifts"][0].update({"from": "?"}), "shifts[0].from"),
    "unknown visit place": (lambda p: p["visits"][3].update(location="?"), "visits[3].location"),
    "duration negative": (lambda p: p["visits"][0].update(duration=-5), "visits[0].duration"),
    "duration fraction": (lambda p: p["visits"][0].update(duration=1.5), "visits[0].duration"),
    "window backwards": (lambda p: p["visits"][0].update(windows=[[9, 8]]), "visits[0].windows[0]"),
    "window no pair": (lambda p: p["visits"][0].update(windows=[9]), "visits[0].windows[0]"),
    "crew of three": (lambda p: p["visits"][0].update(crew=3), "visits[0].crew"),
    "unknown only": (lambda p: p["visits"][0].update(only=["?"]), "visits[0].only[0]"),
    "unknown predecessor": (lambda p: p["visits"][0].update(after=["?"]), "visits[0].after[0]"),
    "after itself": (lambda p: p["visits"][0].update(after=["V0"]), "circle"),
    "ring": (lambda p: [p["visits"][a].update(after=[f"V{b}"]) for a, b in ((0, 1), (1, 2), (2, 0))], "circle"),
    "pin on nobody": (lambda p: p["visits"][0].update(crew=1, pin={"tech": ["?"], "start": 500}), "pin.tech[0]"),
    "pin outside shifts": (
        lambda p: p["visits"][0].update(crew=1, skills={}, pin={"tech": ["T0"], "start": 5}),
        "cannot hold",
    ),
    "pin of one for two": (lambda p: p["visits"][0].update(crew=2, pin={"tech": ["T0"], "start": 600}), "pin.tech"),
    "drop missing": (lambda p: p["visits"][0].pop("drop"), "visits[0].drop is missing"),
    "sla text": (lambda p: p["visits"][0].update(sla={"deadline": "noon"}), "visits[0].sla.deadline"),
    "stock negative": (lambda p: p["technicians"][0].update(stock={"disk": -1}), "technicians[0].stock.disk"),
    "technician twice": (lambda p: p["technicians"][1].update(id="T0"), "technicians[1].id"),
    "weights text": (lambda p: p["weights"].update(travel="much"), "weights.travel"),
    "matrix short": (lambda p: p.update(travel={"kind": "matrix", "minutes": [[0]]}), "travel.minutes has 1 rows"),
    "matrix negative": (
        lambda p: p.update(travel={"kind": "matrix", "minutes": [[-1] * len(p["locations"])] * len(p["locations"])}),
        "travel.minutes[0][0]",
    ),
    "matrix gap": (
        lambda p: p.update(travel={"kind": "matrix", "minutes": [[None] * len(p["locations"])] * len(p["locations"])}),
        "travel.minutes[0][0]",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_problem_is_refused_in_a_sentence_that_names_the_field(name: str) -> None:
    given = copy.deepcopy(BASE)
    change, words = WRONG[name]
    change(given)
    with pytest.raises(Misconfigured) as caught:
        from_json(given)
    assert words in caught.value.what
    assert caught.value.what.endswith(".")


TOLERATED: dict[str, tuple[Change, str]] = {
    "skill that nobody has": (lambda v: v.update(skills={"magic": 1}), "skill magic"),
    "window in the past": (lambda v: v.update(windows=[[-90, -30]]), "past"),
    "longer than any shift": (lambda v: v.update(duration=5000), "as long as it takes"),
    "part that nobody stocks": (lambda v: v.update(parts={"unicorn": 1}, crew=1), "unicorn"),
    "no window": (lambda v: v.update(windows=[]), "no window"),
}


@pytest.mark.parametrize("name", TOLERATED)
def test_what_cannot_be_done_is_left_out_with_its_reason(name: str) -> None:
    given = copy.deepcopy(BASE)
    change, words = TOLERATED[name]
    for visit in given["visits"]:
        visit["after"] = []
    given["visits"][0].update(skills={}, only=None, never=[], parts={}, promised=None)
    change(given["visits"][0])
    reasons = {item["visit"]: item["reason"] for item in solve(given, iterations=5).plan["unassigned"]}
    assert words in reasons["V0"]


def test_a_visit_needs_no_optional_fields() -> None:
    given = copy.deepcopy(BASE)
    given["visits"] = [{"id": "V", "location": "L0", "duration": 5, "windows": [[500, 900]], "drop": 100}]
    given.pop("depots"), given.pop("incumbent"), given.pop("weights")
    assert solve(given, iterations=5).plan["unassigned"] == []


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 3}', "\xff"])
def test_the_command_explains_what_is_no_problem(tmp_path: Path, text: str) -> None:
    file = tmp_path / "p.json"
    file.write_text(text, "latin-1")
    command = [
        sys.executable,
        "-c",
        "from msp.console import main; main()",
        "dispatch",
        "solve",
        str(file),
        str(tmp_path / "o"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("msp: ")
    assert not (tmp_path / "o").exists()


def test_random_damage_never_gives_a_traceback() -> None:
    from random import Random

    rng = Random(5)
    odd = [None, -1, 0, 1.5, "x", [], {}, True, 10**9]
    for _ in range(400):
        given = copy.deepcopy(BASE)
        box: Any = given
        while True:
            keys = list(box) if isinstance(box, dict) else list(range(len(box)))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(box[key], dict | list) and box[key] and rng.random() < 0.85:
                box = box[key]
                continue
            if rng.random() < 0.3:
                del box[key]
            else:
                box[key] = rng.choice(odd)
            break
        with suppress(Misconfigured):
            solve(json.loads(json.dumps(given)), iterations=2)
