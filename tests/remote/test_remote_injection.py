"""Hostile values arrive verbatim, wherever in a script they stand; a real shell is the judge."""

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msp.errors import Misconfigured
from msp.remote import render
from msp.vault import Secret

HOSTILE = [
    "plain",
    "",
    " two  words ",
    "it's",
    'say "hi"',
    "'; touch pwned; '",
    '"; touch pwned; "',
    "$(touch pwned)",
    "`touch pwned`",
    "${IFS}touch${IFS}pwned",
    "a\nb\n\nc\n",
    "\ntouch pwned\n",
    "back\\slash\\",
    "$HOME ~ * ? [a-z] {1,2} !!",
    "-rf",
    "EOF",
    "\r\n\t",
    "# no comment",
    "ünï→漢字 \U0001f600",
    "; & | < > ( )",
    "a" * 5000,
]
PLACES = {
    "bare": "printf '%s' {{ v }}",
    "double quotes": "printf '%s' \"{{ v }}\"",
    "single quotes": "printf '%s' '{{ v }}'",
    "inside a word": "x=a{{ v }}b; printf '%s' \"${x#a}\" | sed '$s/b$//'",
    "assignment": "x={{ v }}; printf '%s' \"$x\"",
    "substitution": "printf '%s' \"$(printf '%s_' {{ v }})\" | sed '$s/_$//'",
    "substitution in quotes": 'x="$(printf \'%s_\' "{{ v }}")"; printf \'%s\' "${x%_}"',
    "here-document": "x=$(cat <<EOF\n{{ v }}_\nEOF\n); printf '%s' \"${x%_}\"",
    "after a comment": "# about {{ v }}\nprintf '%s' {{ v }}",
    "in a case": "case x in a) :;; x) printf '%s' \"{{ v }}\";; esac",
    "default of a variable": "printf '%s' \"${unset_one:-{{ v }}}\"",
    "backticks": "x=`printf '%s_' {{ v }}`; printf '%s' \"${x%_}\"",
    "loop": "{% for one in [v] %}printf '%s' {{ one }}{% endfor %}",
}
SHELLS = [shell for shell in ("dash", "bash") if shutil.which(shell)]


def said(shell: str, template: str, **scope: object) -> bytes:
    script = render.script(template, scope)
    done = subprocess.run(
        [shell, "-c", script.text], input=script.stdin, capture_output=True, timeout=20, cwd="/", check=False
    )
    assert done.stderr == b"", done.stderr
    return done.stdout


@pytest.mark.parametrize("place", PLACES)
def test_hostile_values_arrive_verbatim(place: str) -> None:
    for shell in SHELLS:
        for value in HOSTILE:
            if "sed" in PLACES[place] and (value.endswith("\n") or value == ""):
                continue  # the judge itself drops a last newline there
            assert said(shell, PLACES[place], v=value) == value.encode(), (shell, value)


@pytest.mark.parametrize("place", ["bare", "double quotes", "single quotes", "here-document"])
def test_secrets_arrive_verbatim_and_are_not_in_the_script(place: str) -> None:
    for value in [*HOSTILE[1:], "hunter2-Käse\\n%s\\0"]:
        template = PLACES[place]
        if len(value) > 5 and value != "plain":  # shorter ones stand in any script
            assert value not in render.script(template, {"v": Secret(value)}).text
        assert said("dash", template, v=Secret(value)) == value.encode(), value


@settings(max_examples=60, deadline=None)
@given(value=st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40))
def test_any_text_arrives_verbatim_in_every_kind_of_quotes(value: str) -> None:
    template = "printf '%s|' {{ v }} \"{{ v }}\" '{{ v }}'"
    assert said("dash", template, v=value) == (value + "|").encode() * 3


def test_a_list_becomes_separate_words() -> None:
    assert said("dash", "printf '<%s>' {{ v }}", v=["a b", "c'd", "$x"]) == b"<a b><c'd><$x>"


def test_raw_is_the_explicit_way_out() -> None:
    assert said("dash", "{{ v | raw }}", v="printf '%s' done") == b"done"


def test_quoted_here_document_takes_a_line_and_refuses_several() -> None:
    template = "cat <<'EOF'\nx {{ v }}\nEOF"
    assert said("dash", template, v="$(touch pwned) `x` \\ '") == b"x $(touch pwned) `x` \\ '\n"
    with pytest.raises(Misconfigured, match="several lines"):
        render.script(template, {"v": "a\nEOF\ntouch pwned"})
    with pytest.raises(Misconfigured, match="ends the here-document"):
        render.script("cat <<'EOF'\n{{ v }}\nEOF", {"v": "EOF"})


def test_text_in_arithmetic_is_refused_because_a_shell_would_evaluate_it() -> None:
    assert said("dash", "printf %s $(( {{ v }} * 2 ))", v=21) == b"42"
    with pytest.raises(Misconfigured, match="arithmetic"):
        render.script("echo $(( {{ v }} ))", {"v": "a[$(touch pwned)]"})


def test_undefined_name_is_an_error_that_names_it() -> None:
    with pytest.raises(render.UndefinedName, match="nowhere"):
        render.script("echo {{ nowhere }}", {})
    with pytest.raises(render.UndefinedName, match="nowhere"):
        render.value("nowhere > 3", {})


@pytest.mark.parametrize(
    "template",
    [
        "{{ v.__class__.__mro__ }}",
        "{{ ''.__class__ }}",
        "{{ [].append.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    ],
)
def test_sandbox_gives_no_way_to_python(template: str) -> None:
    with pytest.raises(Misconfigured):
        render.script(template, {"v": "x"})


def test_values_for_a_program_that_is_no_shell_are_refused() -> None:
    with pytest.raises(Misconfigured, match="shell scripts only"):
        render.script("#!/usr/bin/python3\nprint({{ v }})", {"v": "x y"})


def test_a_value_cannot_end_a_here_document_whose_tabs_are_stripped() -> None:
    for template in (
        "cat <<-'EOF'\n\t{{ a }}\n\t{{ b }}\n\tEOF",
        "cat <<'EOF'\n{{ a }}\n{{ b }}\nEOF",
        "x=$(cat <<'EOF'\n{{ a }}\n{{ b }}\nEOF\n)",
    ):
        for value in ("EOF", "\tEOF", "EOF)"):
            with pytest.raises(Misconfigured, match="ends the here-document"):
                render.script(template, {"a": value, "b": "echo INJECTED $(id -u); true"})


SHARP = "x /y *  $(touch pwned) `touch pwned`"
AROUND = {
    "shift in arithmetic": "n=$(( 1 << 20 ))\n{}",
    "shift on a line of its own": "n=$((1<<EOF))\n{}\nEOF=1",
    "case in a substitution": "printf '%s' \"$(case x in a) :;; x) {};; esac)\"",
    "case with open parentheses": "printf '%s' \"$(case x in (a|b) :;; (x) {};; esac)\"",
    "hash in a pattern": "y=a; printf '%s' \"${{y# #}}\"; {}",
    "parenthesis in a default": "z=; : ${{z:-(}}; {}",
    "comment after a joined line": "echo a\\\n#'\n'; {}",
    "escaped space before a hash": "echo \\ #'\n'; {}",
    "substitution in a here-document": "cat <<EOF\n$({})\nEOF",
}


@pytest.mark.parametrize("around", AROUND)
def test_what_stands_around_a_value_does_not_mislead_about_its_quotes(around: str) -> None:
    template = AROUND[around].format("printf '[%s]' {{ v }}")
    for shell in SHELLS:
        plain = said(shell, template, v="plainword")
        assert b"[plainword]" in plain
        assert said(shell, template, v=SHARP) == plain.replace(b"plainword", SHARP.encode()), shell


@pytest.mark.parametrize(
    "template",
    [
        'n=$(( "{{ v }}" ))',
        "n=$(( ${none:-{{ v }}} ))",
        "cat <<EOF\n$(( {{ v }} ))\nEOF",
        "#!/bin/bash\n(( n = {{ v }} ))",
        "#!/bin/bash\n[[ {{ v }} -eq 1 ]]",
        "#!/bin/bash\na[{{ v }}]=1",
        "#!/bin/bash\necho ${PWD:{{ v }}}",
        "#!/bin/bash\nlet x={{ v }}",
        "#!/bin/bash\nn=$[ {{ v }} ]",
        "x=`cat <<'EOF'\n{{ v }}\nEOF\n`",
        "echo $'it\\'s' {{ v }}",
        "cat <<'E{{ v }}'\nx\nE",
        "echo \\{{ v }}",
        'echo "`echo \\"{{ v }}\\"`"',
    ],
)
def test_values_are_refused_where_a_shell_evaluates_text_or_shells_differ(template: str) -> None:
    with pytest.raises(Misconfigured):
        render.script(template, {"v": "a[$(touch pwned)]"})
