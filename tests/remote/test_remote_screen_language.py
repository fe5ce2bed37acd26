"""What a screen step may say, and how it is told what it may not."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from msp.errors import Misconfigured
from msp.remote.playbook import load
from msp.remote.screen import keys
from msp.remote.screen.part import Screen
from msp.remote.yaml_source import Faulty
from msp.secret import Secret

HEAD = "name: x\naction_class: {kind}\ntransport: vnc\nparameters:\n  pin: {{type: secret}}\nsteps:\n"


def faults(steps: str, kind: str = "change", **given: Any) -> list[str]:
    try:
        load(HEAD.format(kind=kind) + steps, **given)
    except Faulty as error:
        return [str(fault) for fault in error.faults]
    return []


def work(*acts: Any, folder: Path | None = None) -> Any:
    return Screen.model_validate(list(acts)).work(lambda text: text, folder, "Step 1")


def test_every_act_is_read_in_its_short_and_its_long_form() -> None:
    steps = """
  - name: all
    screen:
      - capture
      - capture: dialog
      - capture: {name: part, region: {x: 0, y: 0, width: 10, height: 10}}
      - type: "hello {{ host.name }}"
      - type: {text: "{{ pin }}", every: 50ms}
      - press: ctrl-alt-del
      - press: [Tab, Return]
      - press: {keys: F2, times: 3}
      - click: {x: 1, y: 2, button: right, double: true}
      - click: {text: OK, within: 5s}
      - click: {image: ok.png, tolerance: 8, share: 0.9}
      - wait: 2s
      - expect_image: ok.png
      - expect_text: {text: Done, region: {x: 0, y: 0, width: 100, height: 40}, within: 1m, absent: true}
"""
    assert faults(steps) == []


@pytest.mark.parametrize(
    ("act", "fault"),
    [
        ("{press: Retrun}", "9:17: 'press' there is no key 'Retrun' in 'Retrun'; did you mean return?."),
        ("{press: [Tab, ctrl-hurz]}", "there is no key 'hurz' in 'ctrl-hurz'"),
        ("{click: {x: 1}}", "9:17: 'click' needs exactly one of x and y, image and text."),
        ("{click: {x: 1, y: 2, text: OK}}", "needs exactly one of"),
        ("{click: {x: -1, y: 2}}", "'x': input should be greater than or equal to 0"),
        ("{expect_text: {text: a, wihtin: 3s}}", "9:33: Unknown key 'wihtin'. Did you mean 'within'?"),
        ("{expect_text: {text: a, within: soon}}", "'within' must be a duration such as 30s"),
        ("{expect_text: ''}", "should have at least 1 character"),
        ("{expect_image: {image: a.png, share: 0.2}}", "'share'"),
        ("{wait: 0}", "must be more than zero"),
        ("{type: a, press: b}", "needs exactly one of capture, type"),
        ("{dance: now}", "9:10: Unknown key 'dance'."),
        ("{type: Größe}", "9:16: This cannot be typed: not every keyboard has 'ö'"),
        ('{type: "a\\e"}', "there is no key for the character U+001B"),
        ("{type: '{{ nothing }}'}", "'nothing' is not defined here"),
        ("{type: '{{ pin | upper }}'}", "secret pin may only be written out"),
        ("{expect_text: 'a {{ pin }}'}", "A secret may only be typed, not stand in 'expect_text'."),
        ("{capture: 'a/b'}", "'name'"),
    ],
)
def test_fault_of_an_act_is_told_with_its_line(act: str, fault: str) -> None:
    found = faults(f"  - name: a\n    screen:\n      - {act}\n      - expect_text: done\n")
    assert any(fault in one for one in found), found
    assert all(one.startswith("9:") for one in found), found


def test_screen_that_types_needs_a_check_unless_it_ends_by_seeing_something() -> None:
    blind = faults("  - {name: a, screen: [{press: Return}]}\n")
    assert [one for one in blind if "has no check" in one]
    assert faults("  - {name: a, screen: [{press: Return}, {expect_text: Done}]}\n") == []
    assert faults("  - {name: a, do: {screen: [{press: Return}]}, check: {screen: [{expect_text: Done}]}}\n") == []
    assert faults("  - {name: a, screen: [capture]}\n", kind="read") == []


def test_probe_and_check_may_be_screens_that_only_look() -> None:
    step = "  - {{name: a, probe: {{screen: [{act}]}}, do: {{screen: [{{press: Esc}}, {{expect_text: Done}}]}}}}\n"
    assert faults(step.format(act="{expect_text: Error}")) == []
    assert "only looks" in faults(step.format(act="{press: Esc}"))[0]


def test_playbook_that_reads_may_not_type() -> None:
    assert "changes nothing, but this step has 'type'" in faults("  - {screen: [{type: a}]}\n", kind="read")[0]


IMAGE = "{expect_image: a.png}"
TEXT = "{expect_text: Really}"


@pytest.mark.parametrize(
    ("acts", "kind", "refused"),
    [
        ([TEXT, "{press: Return}", TEXT], "disruptive", True),
        ([TEXT, "{press: Return}", TEXT], "access", True),
        ([TEXT, "{press: Return}", TEXT], "change", False),
        ([TEXT, IMAGE, "{press: Return}", TEXT], "disruptive", False),
        ([IMAGE, "{type: a}", TEXT, "{press: Return}", TEXT], "disruptive", True),
        (["{press: Return}", TEXT], "disruptive", False),
        (["{click: {text: OK}}", TEXT], "disruptive", True),
        (["{click: {image: a.png}}", TEXT], "disruptive", False),
        (["{click: {x: 1, y: 1}}", TEXT], "disruptive", False),
    ],
)
def test_grave_act_must_not_rest_on_text_alone(acts: list[str], kind: str, *, refused: bool) -> None:
    found = faults(f"  - {{name: a, screen: [{', '.join(acts)}]}}\n", kind=kind)
    assert any("rests on text read from the screen alone" in one for one in found) == refused, found


def test_text_of_an_earlier_step_and_of_a_probe_is_no_better_ground() -> None:
    look = "  - {name: look, register: seen, screen: [{expect_text: Really}], changes: false}\n"
    act = "  - {name: act, screen: [{press: Return}, {expect_text: Done}]}\n"
    assert "rests on text" in faults(look + act, kind="disruptive")[0]
    between = "  - {name: other, screen: [{press: Tab}, {expect_image: a.png}]}\n"
    later = "  - {name: act, when: seen.ok, screen: [{type: a}, {press: Return}, {expect_text: Done}]}\n"
    assert any(one.startswith("8:") for one in faults(look + later, kind="disruptive"))
    assert faults(look.replace("{expect_text: Really}", IMAGE) + between + later, kind="disruptive") == []
    probed = "  - {name: a, probe: {screen: [{expect_text: Really}]}, do: {screen: [{press: Esc}, {expect_text: D}]}}\n"
    assert "rests on text" in faults(probed, kind="disruptive")[0]


def test_image_must_stand_beside_the_playbook() -> None:
    step = "  - {name: a, screen: [{press: Tab}, {expect_image: a.png}]}\n"
    assert faults(step, has_file=lambda name: name == "a.png") == []
    assert faults(step, has_file=lambda _: False) == ["7:53: There is no image 'a.png' beside the playbook."]
    assert "must be a PNG" in faults(step.replace("a.png", "a.jpg"), has_file=lambda _: True)[0]


def test_image_outside_of_the_folder_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "in" / "b.png").write_bytes(b"GIF89a")
    with pytest.raises(Misconfigured, match="outside"):
        work({"expect_image": "../a.png"}, folder=tmp_path / "in")
    with pytest.raises(Misconfigured, match="is no PNG"):
        work({"expect_image": "b.png"}, folder=tmp_path / "in")
    with pytest.raises(Misconfigured, match="cannot be read"):
        work({"expect_image": "c.png"}, folder=tmp_path / "in")
    with pytest.raises(Misconfigured, match="has no folder"):
        work({"expect_image": "c.png"})


def test_what_is_done_is_shown_and_secrets_are_not() -> None:
    typed = [{"type": "{{ pin }}"}, {"type": 'say "hi"\n'}, {"press": {"keys": "F2", "times": 2}}]
    screen = Screen.model_validate([*typed, {"click": {"x": 3, "y": 4}}, {"expect_text": "Done"}, {"wait": "2s"}])
    done = screen.work(lambda text: Secret("s3same") if "pin" in text else text, None, "Step 1")
    assert done.text == (
        'type ***\ntype "say \\"hi\\"\\n"\npress F2 x2\nclick 3,4\nexpect_text "Done" within 10 s\nwait 2 s'
    )
    assert "s3same" not in repr(done)
    assert done.sends
    with pytest.raises(Misconfigured, match="may only be typed"):
        Screen.model_validate([{"expect_text": "x"}]).work(lambda _: Secret("x"), None, "Step 1")


def test_keys_are_keysyms() -> None:
    assert keys.of_text("aZ e\n\t") == [0x61, 0x5A, 0x20, 0x65, 0xFF0D, 0xFF09]
    assert keys.of_text("aZ é\n\tж😀", any_letter=True) == [
        0x61,
        0x5A,
        0x20,
        0xE9,
        0xFF0D,
        0xFF09,
        0x1000436,
        0x101F600,
    ]
    assert keys.of_combination("ctrl-alt-Del") == [0xFFE3, 0xFFE9, 0xFFFF]
    assert keys.of_combination("ctrl--") == [0xFFE3, 0x2D]
    assert keys.of_combination("-") == [0x2D]
    assert keys.of_combination("F12") == [0xFFC9]
    for nothing in ("\x00", "\x1b", "\x7f", "\x9b", "\udc80", "￾"):
        with pytest.raises(ValueError, match="there is no key"):
            keys.of_text(f"a{nothing}b")
    with pytest.raises(Misconfigured, match=r"cannot be typed: there is no key for the character U\+001B"):
        work({"type": "a\x1b[31m"})
