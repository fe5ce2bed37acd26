"""Hostile values in scripts for Windows arrive verbatim or are refused. Judges: a grammar of PowerShell that is not
ours, and the documented phases of cmd and of CommandLineToArgvW written out again. No PowerShell runs here.
"""

import re
from typing import Any

import powershell_oracle as oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_remote_injection import HOSTILE

from msp.errors import Misconfigured
from msp.remote import render
from msp.remote.winrm import bootstrap
from msp.secret import Secret

WORSE = [
    "'; Remove-Item x; '",
    "\u2019; Remove-Item x; \u2018",
    "\u201a\u201b'\u2018",
    '"; Remove-Item x; "',
    "\u201d; Remove-Item x; \u201c",
    "$(Remove-Item x)",
    "$env:PATH ${x} $x",
    "`$x `n ``",
    "'@\nRemove-Item x\n@'",
    '"@\nRemove-Item x\n@"',
    "#> Remove-Item x <#",
    "--% x",
    "a\u2028b\u00a0c\x1b[31m\x07",
    "%PATH% 100% %%a %1 %*",
    "^& a ^",
    "a & del x | more > y < z",
    "!PATH!",
    "C:\\dir\\",
    "\\\\server\\share name\\",
]
VALUES = [value for value in [*HOSTILE, *WORSE] if "\0" not in value]
PLACES = {
    "bare": "Show {{ v }}",
    "double quotes": 'Show "{{ v }}"',
    "inside double quotes": 'Show "a`"{{ v }}""b"',
    "single quotes": "Show '{{ v }}'",
    "inside single quotes": "Show 'a''{{ v }}''b'",
    "assignment": "$x = {{ v }}\nShow $x",
    "expression in quotes": 'Show "$({{ v }})"',
    "here-string": 'Show @"\na{{ v }}b\n"@',
    "literal here-string": "Show @'\na{{ v }}b\n'@",
    "after comments": "# about {{ v }}\n<# {{ v }}\n#>\nShow {{ v }}",
    "after a quote in a comment": "# it's {{ v }}\nShow {{ v }}",
    "after quotes in quotes": "$y = \"it's $('x')\"\nShow {{ v }}",
    "after a variable with a quote in its name": "${it's} = 1\nShow '{{ v }}'",
}


def said(template: str, **scope: object) -> list[Any]:
    script = render.script(f"#!powershell\n{template}", scope)
    sent = bootstrap.sent(script.text, script.stdin)
    assert sent is not None
    return oracle.Evaluator(script.text.partition("\n")[2], script.stdin.decode().split("\n")).shown


@pytest.mark.parametrize("place", PLACES)
def test_hostile_values_arrive_verbatim_in_powershell(place: str) -> None:
    around = {"inside double quotes": ('a"', '"b'), "inside single quotes": ("a'", "'b")}.get(place, ("", ""))
    if "here-string" in place:
        around = ("a", "b")
    for value in VALUES:
        try:
            found = said(PLACES[place], v=value)
        except Misconfigured:
            assert place == "literal here-string"
            assert "@" in value
            continue
        assert found == [around[0] + value + around[1]], value


SHARP = st.sampled_from("'\u2018\u2019\u201a\u201b\"\u201c`$(){}@#\n;&|%")
ANY = st.characters(exclude_characters="\0\r", exclude_categories=["Cs"])


@settings(max_examples=150, deadline=None)
@given(value=st.text(alphabet=st.one_of(SHARP, ANY), max_size=30))
def test_any_text_arrives_in_every_kind_of_quotes(value: str) -> None:
    assert said("Show {{ v }} \"{{ v }}\" '{{ v }}'", v=value) == [value] * 3


@pytest.mark.parametrize("place", PLACES)
def test_a_value_never_changes_what_the_script_does(place: str) -> None:
    def what_it_does(value: str) -> Any:
        text = render.script(f"#!powershell\n{PLACES[place]}", {"v": value}).text
        body = re.sub(r"(?m)^\$msp_\d+=.*\n", "", text.partition("\n")[2])
        return oracle.shape(oracle.parsed(body))

    for value in VALUES:
        if place != "literal here-string" or "@" not in value:
            assert what_it_does(value) == what_it_does("innocent"), value


def test_secrets_arrive_verbatim_and_stand_in_no_script() -> None:
    for value in VALUES:
        for template in ("Show {{ v }}", 'Show "{{ v }}"', "$x = {{ v }}; Show $x"):
            script = render.script(f"#!powershell\n{template}", {"v": Secret(value)})
            assert oracle.Evaluator(script.text.partition("\n")[2], script.stdin.decode().split("\n")).shown == [value]
            assert script.reads_secrets == 1
            if len(value) > 6:
                assert value not in script.text


def test_secrets_are_refused_where_they_would_be_written_out() -> None:
    for template in ("Show '{{ v }}'", "Show @'\n{{ v }}\n'@"):
        with pytest.raises(Misconfigured, match="secret cannot stand"):
            render.script(f"#!powershell\n{template}", {"v": Secret("hunter2")})
    with pytest.raises(Misconfigured, match="command line of cmd"):
        render.script('#!cmd\nnet user x "{{ v }}"', {"v": Secret("hunter2")})


def test_values_keep_their_types() -> None:
    assert said("Show {{ v }}", v=5) == [5]
    assert said("Show {{ v }}", v=-5) == [-5]
    assert said("Show {{ v }}", v=True) == [True]
    assert said("Show {{ v }}", v=None) == [None]
    assert said("Show {{ v }}", v=["a b", "c'd", 3]) == [["a b", "c'd", 3]]
    assert said("Show {{ v }}", v=["one"]) == [["one"]]
    assert said('Show "{{ v }}"', v=True) == ["true"]


def test_a_value_in_the_middle_of_a_word_is_refused() -> None:
    for template in ("Show C:\\{{ v }}\\x", "Show {{ v }}.Length", "Show -{{ v }}", "Show {{ v }}{{ v }}"):
        with pytest.raises(Misconfigured, match="middle of a word"):
            render.script(f"#!powershell\n{template}", {"v": "x"})
    with pytest.raises(Misconfigured, match="--%"):
        render.script("#!powershell\nicacls --% {{ v }}", {"v": "x"})
    with pytest.raises(Misconfigured, match="name of a variable"):
        render.script("#!powershell\nShow ${ {{ v }} }", {"v": "x"})


def test_typographic_quotes_are_quotes_to_powershell() -> None:
    for template in ("Show \u201c{{ v }}\u201d", "Show \u201e{{ v }}\u201c"):
        text = render.script(f"#!powershell\n{template}", {"v": "it's"}).text
        assert text == f"#!powershell\n$msp_1='it''s'\n{template.replace('{{ v }}', '${msp_1}')}"
    assert said("Show \u2018{{ v }}\u2019".replace("\u2018", "'").replace("\u2019", "'"), v="\u2019") == ["\u2019"]


def test_nul_and_broken_text_are_refused() -> None:
    for head in ("#!powershell", "#!cmd"):
        with pytest.raises(Misconfigured, match="NUL"):
            render.script(f'{head}\necho "{{{{ v }}}}"', {"v": "a\0b"})
        with pytest.raises(Misconfigured, match="Unicode"):
            render.script(f'{head}\necho "{{{{ v }}}}"', {"v": "a\udcffb"})


def arguments(line: str) -> list[str]:
    """Return the arguments that a program gets from one line of a batch file; raises AssertionError for a command."""
    expanded, at = [], 0
    while at < len(line):  # phase 1: %% is a percent sign, %X% and %1 are replaced
        if line[at] == "%":
            assert line[at + 1 : at + 2] == "%", f"{line!r} is expanded"
            at += 1
        expanded.append(line[at])
        at += 1
    text, quoted = "".join(expanded), False
    for char in text:  # phase 2: outside of quotes these are operators
        quoted ^= char == '"'
        assert quoted or char not in "&|<>^()\n\r,;=", f"{line!r} is more than one command"
    assert not quoted
    found: list[str] = []
    for part in re.finditer(r'((?:[^\s"]|"[^"]*")+)', text):  # CommandLineToArgvW, for words without \"
        assert '\\"' not in part[0], f"{line!r} hides a quote"
        found.append(part[0].replace('"', ""))
    return found


@pytest.mark.parametrize("template", ['prog "{{ v }}"', 'prog "a {{ v }} b"', "prog {{ v }}", 'prog /x:"{{ v }}"'])
def test_hostile_values_arrive_verbatim_in_cmd_or_are_refused(template: str) -> None:
    carried = 0
    for value in VALUES:
        try:
            script = render.script(f"#!cmd\n{template}", {"v": value})
        except Misconfigured:
            continue
        carried += 1
        wanted = template.split(" ", 1)[1].replace('"', "").replace("{{ v }}", value)
        assert arguments(script.text.partition("\n")[2])[1:] == [wanted], value
    assert carried >= (1 if template == "prog {{ v }}" else 15)


def test_cmd_refuses_what_it_would_read_twice() -> None:
    for template in ('call x "{{ v }}"', 'for %%f in ("{{ v }}") do echo %%f', 'dir "{{ v }}" | more'):
        with pytest.raises(Misconfigured, match="twice"):
            render.script(f"#!cmd\n{template}", {"v": "50% of x"})
        render.script(f"#!cmd\n{template}", {"v": "half of x & y"})
    with pytest.raises(Misconfigured, match="delayed"):
        render.script('#!cmd\nsetlocal EnableDelayedExpansion\necho "{{ v }}"', {"v": "hi!"})


def test_the_fixed_texts_are_powershell() -> None:
    for text in (bootstrap.POWERSHELL, bootstrap.CMD, bootstrap.ALIVE % "t", f"Get-Date{bootstrap.ENDING}"):
        oracle.parsed(text)


def test_no_script_and_no_value_is_on_a_command_line() -> None:
    one = bootstrap.sent(bootstrap.head("powershell") + "Get-Date", b"")
    other = bootstrap.sent(bootstrap.head("powershell") + "x" * 100_000, b"secret")
    assert one is not None
    assert other is not None
    assert one.command == other.command
    assert len(one.command) < 8000  # cmd.exe takes 8191
    assert bootstrap.sent("echo hello", b"") is None


def test_openssh_on_windows_gets_a_line_for_either_log_in_shell() -> None:
    plain = bootstrap.sent(bootstrap.head("cmd") + "ver", b"")
    marked = bootstrap.sent(bootstrap.head("cmd", "run-1") + "ver", b"")
    assert plain is not None
    assert marked is not None
    assert plain.by_ssh == plain.command
    assert marked.by_ssh == f'cmd.exe /d /c "set MSP_STEP=run-1& {plain.command}"'
    assert '"' not in plain.command


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n", "\u2028", "\x85", "\v", "\f"])
def test_a_value_cannot_end_the_literal_here_string_it_stands_in(end: str) -> None:
    for template, value in (
        ("@'\n{{ v }}\n'@", f"x{end}'@;Remove-Item C:\\;@'"),
        ("@'\n{{ v }}\n'@", f"x{end} \t\u2019@;Remove-Item C:\\"),
        ("@'\nx{{ v }}@; y\n'@", f"{end}'"),
        ("@'\nx{{ v }}'@ y\n'@", end),
    ):
        with pytest.raises(Misconfigured, match="ends the here-document"):
            render.script(f"#!powershell\nShow {template}", {"v": value})
    for template, value in (("@'\n{{ v }}@x\n'@", "'"), ("@'\n{{ v }}'@x\n'@", "")):
        with pytest.raises(Misconfigured, match="ends the here-document"):
            render.script(f"#!powershell\nShow {template}", {"v": value})


def test_a_lone_carriage_return_ends_a_comment_and_a_here_string_of_the_script() -> None:
    for template in ("# it's\rShow {{ v }}", "$x = @'\rit's\r'@\rShow {{ v }}", '$x = @"\rit\'s\r"@\rShow {{ v }}'):
        assert render.script(f"#!powershell\n{template}", {"v": "a b"}).text.endswith("Show ${msp_1}"), template
