"""`msp playbook test`: the shipped cases hold, and a case that does not hold says what came instead."""

import json
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner
from playing import play

from msp.console import main
from msp.remote import cases, catalogue
from msp.remote.yaml_source import Faulty

FOLDER = Path(__file__).resolve().parents[2] / "playbooks"
SHIPPED = sorted(path for path in FOLDER.rglob("*.yml") if cases.beside(path).exists())
BOOK = """\
name: own
action_class: change
parameters: {word: {type: string}, token: {type: secret, optional: true}}
limits: {connect: 20s, step: 20s}
steps:
  - name: write
    probe: "! grep -qxF -- {{ word }} file"
    do: |
      printf '%s\\n' {{ word }} >> file
      printf '%s' {{ token }} > token
    check: grep -qxF -- {{ word }} file
    undo: rm file
"""


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_cases_hold(path: Path) -> None:
    tried = cases.try_all(path)
    assert [(one.case, one.faults) for one in tried if one.faults] == []
    if left_out := [f"{one.case}: {one.left_out}" for one in tried if one.left_out]:
        pytest.skip(f"needs root or a program that is missing: {left_out}")


async def test_port_check_finds_who_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        played = await play(FOLDER / "linux" / "port-check.yml", parameters={"port": server.getsockname()[1]})
    assert played.phases() == ["1 do ok", "2 do ok"]


def own(folder: Path, text: str) -> Path:
    (folder / "own.yml").write_text(BOOK)
    (folder / "own.test.yml").write_text("cases:\n" + text)
    return folder / "own.yml"


def test_case_says_hosts_parameters_and_what_must_come_of_it(tmp_path: Path) -> None:
    path = own(tmp_path, """\
  - name: writes
    parameters: {word: "it's {{ folder }}"}
    secrets: {token: planted-Käse}
    expect: {phases: [1 probe ok, 1 do ok, 1 check ok]}
    afterwards: test "$(cat file)" = "it's $FOLDER" && test "$(cat token)" = planted-Käse
  - {name: not twice, continues: true, parameters: {word: "it's {{ folder }}"}, expect: {phases: [1 probe skipped]}}
  - {name: a fresh folder, parameters: {word: x}, dry_run: true, expect: {phases: [1 probe ok, 1 do skipped]}}
  - {name: refuses, on: fake, fault: refuse, parameters: {word: x}, expect: {outcome: unreachable(refused)}}
  - {name: asked, on: fake, parameters: {word: hello}, expect: {sent: [hello]}}
  - {name: elsewhere, platform: freebsd, on: fake, parameters: {word: x}}
  - {name: left out, needs: [no-such-program], parameters: {word: x}}
""")  # fmt: skip
    tried = cases.try_all(path)
    assert [(one.case, one.faults) for one in tried if not one.ok and not one.left_out] == []
    assert tried[-1].left_out == "needs no-such-program"


@pytest.mark.parametrize(
    ("case", "fault"),
    [
        ("{parameters: {word: x}, expect: {outcome: failed(1)}}", "It ended as ok, not failed(1)"),
        ("{parameters: {word: x}, expect: {phases: [1 do ok]}}", "It did 1 probe ok, 1 do ok, 1 check ok; expected"),
        ("{parameters: {word: x}, expect: {output: {1 do: more}}}", "does not hold 'more'"),
        ("{parameters: {word: x}, expect: {detail: more}}", "does not hold 'more'"),
        ("{parameters: {word: x}, afterwards: test -e nothing}", "Afterwards: its script ended with status 1"),
        ("{parameters: {word: x}, prepare: echo no >&2; exit 7}", "Before it: its script ended with status 7: no"),
        ("{parameters: {word: x}, on: fake, expect: {sent: [reboot]}}", "'reboot' was never sent"),
        ("{parameters: {}}", "Parameter word is missing"),
        ("{parameters: {word: x, token: 'vault:none'}}", "gives no secret 'none'"),
        ("{parameters: {word: x}, files: {../out: x}}", "outside the folder"),
    ],
)
def test_case_that_does_not_hold_says_what_came_instead(tmp_path: Path, case: str, fault: str) -> None:
    (tried,) = cases.try_all(own(tmp_path, f"  - {{name: one, {case[1:]}\n"))
    assert not tried.ok
    assert fault in tried.faults[0]


def test_faults_of_a_file_are_told_with_line_and_column() -> None:
    with pytest.raises(Faulty, match=r"2:15: Unknown key 'parameter'\. Did you mean 'parameters'"):
        cases.load("cases:\n  - {name: a, parameter: 1}\n")
    with pytest.raises(Faulty, match="'on' is 'moon'; it must be local or fake"):
        cases.load("cases: [{name: a, on: moon}]")
    with pytest.raises(Faulty, match="`cases`"):
        cases.load("- a")


def test_command_tries_checks_and_ends_with_one_when_a_case_fails(tmp_path: Path) -> None:
    good = own(
        tmp_path,
        "  - {name: good, parameters: {word: x}}\n  - {name: bad, parameters: {word: x}, expect: {outcome: lost}}\n",
    )

    def said(*words: str, status: int) -> str:
        done = CliRunner().invoke(main, ["playbook", *words])
        assert done.exit_code == status, done.output
        return done.output

    out = said("test", str(good), status=1)
    assert "own: good: ok\n" in out
    assert "own: bad: FAILED\n  It ended as ok, not lost" in out
    rows = [json.loads(line) for line in said("test", str(good), "--json", status=1).splitlines()]
    assert [(row["case"], row["ok"]) for row in rows] == [("good", True), ("bad", False)]
    assert "own.test.yml: ok" in said("check", str(cases.beside(good)), status=0)
    good.with_name("own.test.yml").write_text("cases: 3\n")
    assert "own.test.yml:1:8:" in said("check", str(cases.beside(good)), status=1)
    (tmp_path / "bare.yml").write_text(BOOK)
    assert "has no cases" in said("test", str(tmp_path / "bare.yml"), status=2)


def test_cases_are_not_taken_for_playbooks() -> None:
    names = [name for name, _ in catalogue.files()]
    assert "disk-usage-report" in names
    assert not [name for name in names if "test" in name]
