"""The playbook language: every fault with its line and column, short forms, and a schema that agrees."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from msp.cli.playbook import BEGINNING, check
from msp.errors import Misconfigured
from msp.remote import catalogue, parameters, plan, playbook
from msp.remote.parameters import Parameter
from msp.remote.playbook_part import duration
from msp.remote.yaml_source import Faulty, read
from msp.secret import Secret

HEAD = "name: t\nversion: 1.10\nsummary: s\naction_class: change\n"
STEP = "steps:\n  - {do: 'true', check: 'true'}\n"


def faults(text: str) -> list[str]:
    try:
        playbook.load(text, known=lambda name: name == "there")
    except Faulty as error:
        return [str(fault) for fault in error.faults]
    return []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1:1: The file is empty"),
        ("- a\n", "1:1: A playbook is a list of keys"),
        (HEAD, "1:1: 'steps' is missing."),
        ("name: t\naction_class: read\nsteps: []\n", "3:8: 'steps'"),
        (HEAD.replace("change", "chnage") + STEP, "4:15: 'action_class' is 'chnage'; it must be read, change"),
        (HEAD + "colour: red\n" + STEP, "5:1: Unknown key 'colour'."),
        (HEAD + "steps:\n  - do: 'true'\n    chek: 'true'\n", "7:5: Unknown key 'chek'. Did you mean 'check'?"),
        (HEAD + "name: twice\n" + STEP, "5:1: Key 'name' stands here twice."),
        (HEAD + "steps:\n  - do: {shel: 'true'}\n", "6:10: Unknown key 'shel'. Did you mean 'shell'?"),
        (HEAD + "steps:\n  - do: {shell: a, file: {path: b}}\n", "6:9: 'do' needs exactly one of shell"),
        (HEAD + "steps:\n  - do: 'true'\n", "6:5: Step number 1 has no check"),
        (HEAD + "steps:\n  - {do: a, check: b, retry: 3}\n", "6:23: Only an idempotent step"),
        (HEAD + "steps:\n  - {do: a, check: b, timeout: soon}\n", "6:32: 'timeout' must be a duration"),
        (HEAD + "steps:\n  - {do: 'echo {{ x }}', check: b}\n", "6:10: 'x' is not defined here"),
        (HEAD + "steps:\n  - do: |\n      echo ok\n      echo {{ x }}\n    check: b\n", "8:9: 'x' is not defined here"),
        (HEAD + "steps:\n  - {do: 'echo {{ x', check: b}\n", "6:10: Template: "),
        (HEAD + "steps:\n  - {do: a, check: b, when: 'x ='}\n", "6:29: Template: "),
        (HEAD + "steps:\n  - {include: elsewhere}\n", "6:5: There is no playbook 'elsewhere'"),
        (HEAD + "steps:\n  - {do: a, check: b, notify: nobody}\n", "6:31: There is no handler named 'nobody'."),
        (HEAD + "parameters: {host: string}\n" + STEP, "5:14: The name 'host' is a word of the language."),
        (HEAD + "parameters: {n: {type: int, default: x}}\n" + STEP, "5:38: Parameter default is 'x'"),
        (HEAD + "parameters: {n: {type: number}}\n" + STEP, "5:24: 'type' is 'number'"),
        (HEAD + "parameters: {n: {type: string, pattern: '('}}\n" + STEP, "5:41: This is not a regular expression"),
        (HEAD + "parameters: {n: {type: choice}}\n" + STEP, "5:24: A choice needs `choices`."),
        (HEAD + "parameters: {n: {type: secret, default: x}}\n" + STEP, "5:41: A secret has no default"),
        (HEAD + "serial: 1\nparallel: 2\n" + STEP, "6:1: Give `serial` or `parallel`, not both."),
        (HEAD + "a: &x 1\nb: *x\n" + STEP, "5:4: YAML anchors and aliases are not used"),
        (HEAD + "a: !!python/object:os.system x\n" + STEP, "5:4: YAML tags are not used"),
        (HEAD + "a: [1\n" + STEP, "6:6: This is not valid YAML"),
        (HEAD + "a: \x07\n" + STEP, "5:1: This is not valid YAML"),
        (HEAD + "steps:\n  - {assert: 'x y'}\n", "6:14: Template: "),
        (HEAD + "steps:\n  - {wait_for: {port: 1, path: /x}}\n", "6:16: 'wait_for' needs exactly one of"),
    ],
)
def test_fault_is_told_with_line_and_column(text: str, said: str) -> None:
    found = faults(text)
    assert any(one.startswith(said) for one in found), found


def test_all_faults_of_a_kind_are_told_at_once() -> None:
    text = HEAD + "steps:\n  - {do: '{{ a }}', check: b}\n  - {do: c}\n  - {do: '{{ d }}', check: b}\n"
    assert [one.split(":")[0] for one in faults(text)] == ["6", "7", "8"]


def test_secret_may_only_be_written_out() -> None:
    text = HEAD + "parameters: {s: secret}\nsteps:\n  - {do: 'echo {{ s }}', check: b}\n"
    assert faults(text) == []
    for use in ("{{ s | upper }}", "{% if s %}x{% endif %}", "{{ s ~ 1 }}", "{{ s[0] }}"):
        assert "may only be written out" in faults(text.replace("{{ s }}", use))[0], use


def test_short_forms_mean_the_same_as_long_ones() -> None:
    short = playbook.load(HEAD.replace("change", "read") + "steps: [{shell: date}, date, {do: date}]")
    assert [step.do.act.script for step in short.steps] == ["date"] * 3
    assert short.version == "1.10"


def test_words_that_yaml_would_bend_stay_words() -> None:
    found = read("a: yes\nb: off\nc: 012\nd: 1.50\ne: 2026-01-01\nf: true\ng: 7\nh: ~\n").value
    assert found == {"a": "yes", "b": "off", "c": "012", "d": 1.5, "e": "2026-01-01", "f": True, "g": 7, "h": None}


def test_beginning_of_a_new_playbook_passes_check() -> None:
    assert faults(BEGINNING.format(name="my-first")) == []


@settings(max_examples=150, deadline=None)
@given(text=st.text(alphabet=st.sampled_from("abc:-[]{}'\"|>\n #&*!%@0 \t~?,"), max_size=60) | st.binary(max_size=60))
def test_any_text_gives_faults_and_never_a_traceback(text: str | bytes) -> None:
    with pytest.raises(Faulty) as caught:
        playbook.load(text)
    assert caught.value.faults
    assert all(fault.line >= 1 and fault.column >= 1 and fault.message for fault in caught.value.faults)


@settings(max_examples=60, deadline=None)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["x", "{{", "{{ a }}", "read", "1s"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "name",
                        "steps",
                        "do",
                        "check",
                        "shell",
                        "file",
                        "path",
                        "when",
                        "loop",
                        "parameters",
                        "action_class",
                        "type",
                        "retry",
                        "timeout",
                        "limits",
                        "assert",
                        "include",
                    ]
                ),
                inner,
                max_size=5,
            )
        ),
        max_leaves=25,
    )
)
def test_any_shape_gives_faults_and_never_a_traceback(value: object) -> None:
    assert isinstance(faults(json.dumps(value)), list)


def test_schema_knows_every_key_and_short_form() -> None:
    schema = playbook.schema()
    assert set(schema["properties"]) == set(playbook.Playbook.model_fields)
    assert schema["additionalProperties"] is False
    step = schema["$defs"]["Step"]["anyOf"][1]["properties"]
    assert {"do", "probe", "check", "undo", "register", "shell", "file", "assert"} <= set(step)


@pytest.mark.parametrize(
    ("given", "seconds"), [(30, 30), ("30", 30), ("30s", 30), ("5m", 300), ("2h", 7200), ("500ms", 0.5), (1.5, 1.5)]
)
def test_durations(given: object, seconds: float) -> None:
    assert duration(given).total_seconds() == seconds


@pytest.mark.parametrize("given", ["0s", "-1", "soon", "", True, "8d", "1w"])
def test_durations_that_are_none(given: object) -> None:
    with pytest.raises(ValueError):
        duration(given)


@pytest.mark.parametrize(
    ("definition", "given", "value"),
    [
        ({"type": "int", "min": 1, "max": 9}, "7", 7),
        ({"type": "bool"}, "yes", True),
        ({"type": "bool"}, "0", False),
        ({"type": "choice", "choices": ["a", "b"]}, "b", "b"),
        ({"type": "string", "pattern": "a+"}, "aaa", "aaa"),
        ({"type": "string"}, 5, "5"),
        ({"type": "secret"}, "vault:db password", "vault:db password"),
        ({"type": "asset"}, "srv-1", "srv-1"),
    ],
)
def test_parameters_take_their_type(definition: dict[str, object], given: object, value: object) -> None:
    assert Parameter.model_validate(definition).value("p", given) == value


@pytest.mark.parametrize(
    ("definition", "given", "said"),
    [
        ({"type": "int"}, "x", "must be a whole number"),
        ({"type": "int"}, "1.5", "must be a whole number"),
        ({"type": "int", "min": 3}, "2", "at least 3"),
        ({"type": "int", "max": 3}, 4, "at most 3"),
        ({"type": "int"}, "٣", "must be a whole number"),
        ({"type": "bool"}, "maybe", "true or false"),
        ({"type": "choice", "choices": ["a"]}, "b", "choose one of a"),
        ({"type": "string", "pattern": "a+"}, "aab", "must match a+"),
        ({"type": "string", "pattern": "[a-z]+"}, "a\n", "must match"),
        ({"type": "string"}, "a\0b", "NUL"),
        ({"type": "string"}, [1], "must be text"),
        ({"type": "secret"}, "hunter2", "by reference"),
    ],
)
def test_wrong_parameters_are_one_sentence(definition: dict[str, object], given: object, said: str) -> None:
    with pytest.raises(Misconfigured, match=said) as caught:
        Parameter.model_validate(definition).value("p", given)
    assert "hunter2" not in caught.value.what


def test_missing_unknown_and_optional_parameters() -> None:
    defined = {"path": Parameter(type="string"), "more": Parameter(type="string", optional=True)}
    assert parameters.resolve(defined, {"path": "/x"}) == {"path": "/x", "more": ""}
    with pytest.raises(Misconfigured, match="path is missing"):
        parameters.resolve(defined, {})
    with pytest.raises(Misconfigured, match="no parameter pth") as caught:
        parameters.resolve(defined, {"pth": "/x"})
    assert caught.value.advice == "Did you mean path?"


def test_playbook_that_includes_itself_is_an_error_and_not_an_endless_loop(tmp_path: Path) -> None:
    from playing import planned

    (tmp_path / "self.yml").write_text(HEAD + "steps: [{include: self}]")
    with pytest.raises(Misconfigured, match="deep"):
        planned(tmp_path / "self.yml")


@pytest.mark.parametrize(
    ("outer", "inner", "covered"),
    [
        ("read", "read", True),
        ("read", "change", False),
        ("change", "read", True),
        ("change", "disruptive", False),
        ("change", "access", False),
        ("disruptive", "change", True),
        ("disruptive", "access", False),
        ("access", "read", True),
        ("access", "change", False),
        ("access", "access", True),
    ],
)
@pytest.mark.parametrize("step", ["{include: inner}", "{include: {playbook: inner}}"])
def test_playbook_includes_nothing_of_a_graver_class(
    tmp_path: Path, outer: str, inner: str, covered: bool, step: str
) -> None:
    head = HEAD.replace("action_class: change", "action_class: {}")
    (tmp_path / "inner.yml").write_text(head.format(inner) + STEP)
    (tmp_path / "outer.yml").write_text(head.format(outer) + f"steps:\n  - {step}\n")
    told = CliRunner().invoke(check, [str(tmp_path / "outer.yml")])
    assert told.exit_code == (0 if covered else 1), told.output
    column = 15 if step == "{include: inner}" else 26
    said = f"6:{column}: A playbook of class {outer} cannot include 'inner', which is of class {inner}."
    assert (said in told.output) is not covered
    if not covered:
        with pytest.raises(Misconfigured, match="cannot include 'inner'"):
            catalogue.find(str(tmp_path / "outer.yml"))
        text = catalogue.parse((tmp_path / "outer.yml").read_text())
        with pytest.raises(Misconfigured, match=f"class {outer}; it cannot include inner, which is of class {inner}"):
            plan.build(text, {}, secret=Secret, include=catalogue.includer("", tmp_path))


def test_digest_of_a_plain_playbook_is_its_texts_and_covers_what_is_included_and_copied(tmp_path: Path) -> None:
    def digest(name: str, **given: str) -> str:
        return catalogue.digest_of((tmp_path / f"{name}.yml").read_text(), given, str(tmp_path))

    (tmp_path / "inner.yml").write_text(HEAD + STEP)
    (tmp_path / "middle.yml").write_text(HEAD + "steps: [{include: inner}]")
    (tmp_path / "outer.yml").write_text(HEAD + "steps: [{include: middle}]")
    (tmp_path / "copy.yml").write_text(
        HEAD + 'parameters: {a: string}\nsteps: [{"file": {"source" : "{{ a }}", path: /tmp/x}}]'
    )
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text("one")
    (tmp_path / "other").write_text("one")
    assert digest("inner") == playbook.digest(HEAD + STEP)
    before = digest("outer"), digest("copy", a="tree"), digest("copy", a="other")
    assert len({*before, playbook.digest((tmp_path / "outer.yml").read_text())}) == 4
    (tmp_path / "inner.yml").write_text(HEAD + STEP.replace("do: 'true'", "do: 'false'"))
    (tmp_path / "tree" / "file").write_text("two")
    (tmp_path / "other").write_text("two")
    after = digest("outer"), digest("copy", a="tree"), digest("copy", a="other")
    assert not set(before) & set(after)
    with pytest.raises(Misconfigured, match="lies outside"):
        digest("copy", a="../elsewhere")


def test_more_steps_than_bearable_are_refused_before_anything_runs() -> None:
    from playing import planned

    with pytest.raises(Misconfigured, match="at most 500"):
        planned(HEAD + "steps: [{loop: range(10000), do: 'true', check: 'true'}]")
