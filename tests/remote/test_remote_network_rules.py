"""What a network step may say, what is secret in a configuration, and the way from one configuration to another."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playing import planned

from msp.errors import Misconfigured
from msp.remote.network import configuration
from msp.remote.network.dialogue import cleaned
from msp.remote.network.part import LONGEST, Network
from msp.remote.network.platforms import PLATFORMS, platform, said
from msp.remote.playbook import load
from msp.remote.playbook_part import Special
from msp.remote.yaml_source import Faulty
from msp.secret import Secret

IOS, JUNOS = PLATFORMS["cisco_ios"], PLATFORMS["juniper_junos"]


HEAD = "name: x\naction_class: {}\nparameters: {{v: {{type: string}}, s: {{type: secret}}}}\nsteps:\n"


def book(do: str, action_class: str = "change", more: str = "") -> bytes:
    return f"{HEAD.format(action_class)}  - do: {{network: {do}}}\n{more}".encode()


@pytest.mark.parametrize(
    ("do", "fault"),
    [
        ("{}", "exactly one of show, config"),
        ("{show: show version, config: hostname x}", "exactly one of show, config"),
        ("{show: show version, contains: a, matches: b}", "not both"),
        ("{show: show version, matches: '('}", "no regular expression"),
        ("{show: show version, absent: true}", "absent goes with"),
        ("{config: hostname x, contains: x}", "with config, write verify"),
        ("{config: hostname x, deadman: 5m}", "deadman needs verify"),
        ("{config: hostname x, verify: [{show: a}]}", "needs contains or matches"),
        ("{show: show version, save: true}", "save goes with config"),
        ("{config: hostname x}", "has no check"),
        ("{config: 'hostname {{ w }}', verify: [{show: a, contains: b}]}", "'w' is not defined"),
        ("{shows: a}", "Did you mean 'show'"),
    ],
)
def test_step_that_cannot_be_meant_is_told(do: str, fault: str) -> None:
    with pytest.raises(Faulty) as caught:
        load(book(do))
    assert fault in str(caught.value.faults[0]), caught.value.faults


def test_step_needs_a_check_only_if_nothing_in_it_proves_it() -> None:
    load(book("{config: hostname x, verify: [{show: a, contains: b}]}"))
    load(book("{save: true}"))
    load(book("{show: show version}", "read"))
    load(book("{config: hostname x}", more="    check: {network: {show: a, contains: b}}\n"))
    load(book("{config: hostname x}", more="    check: {network: {show: a, contains: b}}\n"
                                           "    undo: {network: {revert: true}}\n"))  # fmt: skip


def test_reading_playbook_configures_nothing_and_probes_only_look() -> None:
    with pytest.raises(Faulty, match="class read changes nothing"):
        load(book("{config: hostname x}", "read"))
    with pytest.raises(Faulty, match="class read changes nothing"):
        load(book("{save: true}", "read"))
    with pytest.raises(Faulty, match="only looks"):
        load(book("{show: a}", more="    probe: {network: {config: b}}\n"))


def test_asking_needs_no_claim_and_changing_does() -> None:
    document = book("{show: a}", more="  - do: {network: {save: true}}\n").decode()
    plan = planned(document.replace("parameters: {v: {type: string}, s: {type: secret}}\n", ""))
    assert [step.reads for step in plan.steps] == [True, False]


def work(config: str, **values: Any) -> Any:
    def fill(template: str) -> Any:
        filled = template
        for name, value in values.items():
            given = value.value if isinstance(value, Secret) else str(value)
            filled = filled.replace("{{ " + name + " }}", given)
        return Secret(filled) if any(isinstance(v, Secret) and n in template for n, v in values.items()) else filled

    part = Network.model_validate({"config": config, "verify": [{"show": "a", "contains": "b"}]})
    assert isinstance(part, Special)
    return part.work(fill, None, "Step 1 (x), do")


def test_block_becomes_lines_before_values_are_filled_in() -> None:
    done = work("interface a\n\n description {{ v }}\n", v="x y")
    assert [line.text for line in done.config] == ["interface a", " description x y"]
    assert done.step == "Step 1 (x)"
    assert done.text == "configure\n  interface a\n   description x y\nexpect: `a` shows 'b'\n"


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\x1ab", "a\x00b", "a\tb", "a\x7fb", "a\x85b", "a\u2028b"])
def test_value_that_would_become_a_command_of_its_own_is_refused(value: str) -> None:
    for hostile in (value, Secret(value)):
        with pytest.raises(Misconfigured, match="line break or a control") as caught:
            work("description {{ v }}", v=hostile)
        assert "command of its own" in caught.value.advice


def test_line_that_no_device_takes_whole_is_refused() -> None:
    with pytest.raises(Misconfigured, match="devices take"):
        work("description {{ v }}", v="x" * LONGEST)


def test_line_with_signs_of_its_own_must_be_found_afterwards() -> None:
    lines = work("description {{ v }}\nip address {{ a }}\nip route a b | c", v="x | y", a="192.0.2.1 255.0.0.0").config
    assert [line.exact for line in lines] == [True, False, False]


def test_value_in_a_pattern_stands_for_itself_and_a_secret_is_not_looked_for() -> None:
    part = Network.model_validate({"show": "a", "matches": r"^x\s{{ v }}$"})
    assert part.work(lambda template: template.replace("{{ v }}", "1.2"), None, "s").looks[0].wanted == r"^x\s1\.2$"
    for name in ("matches", "contains"):
        with pytest.raises(Misconfigured, match="cannot be looked for"):
            Network.model_validate({"show": "a", name: "{{ s }}"}).work(lambda _: Secret("x"), None, "s")


def test_secret_is_shown_as_its_name_and_must_be_one_word() -> None:
    done = work("username a secret {{ s }}", s=Secret("hunter2-Passw0rd"))
    assert "hunter2" not in done.text + repr(done)
    assert "username a secret {{ s }}" in done.text
    for value in ("", "two words", "a|b"):
        with pytest.raises(Misconfigured, match="the secret in"):
            work("username a secret {{ s }}", s=Secret(value))


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("enable secret 5 $1$abc", "enable secret 5 <removed>"),
        ("username bob privilege 15 secret 9 $9$abc", "username bob privilege 15 secret 9 <removed>"),
        ("username bob password 0 plain", "username bob password 0 <removed>"),
        (" neighbor 192.0.2.9 password 7 0822", " neighbor 192.0.2.9 password 7 <removed>"),
        (" neighbor 192.0.2.9 password plain", " neighbor 192.0.2.9 password <removed>"),
        ("snmp-server community public RO 10", "snmp-server community <removed> RO 10"),
        ("snmp-server host 10.0.0.1 version 2c public", "snmp-server host 10.0.0.1 version 2c <removed>"),
        ("snmp-server user u g v3 auth sha aaa priv aes 128 bbb",
         "snmp-server user u g v3 auth sha <removed> priv aes 128 <removed>"),
        ("tacacs-server host 10.0.0.1 key 7 0822", "tacacs-server host 10.0.0.1 key 7 <removed>"),
        ("radius-server key plain", "radius-server key <removed>"),
        (" key 7 08224F", " key 7 <removed>"),
        (" key 1", " key 1"),
        ("  key-string 7 0822", "  key-string 7 <removed>"),
        (" ip ospf message-digest-key 1 md5 7 0822", " ip ospf message-digest-key 1 md5 7 <removed>"),
        (" ip ospf authentication-key plain", " ip ospf authentication-key <removed>"),
        ("crypto isakmp key topsecret address 192.0.2.1", "crypto isakmp key <removed> address 192.0.2.1"),
        (" pre-shared-key ascii-text \"$9$abc\"", " pre-shared-key ascii-text <removed>"),
        ('set system root-authentication encrypted-password "$6$a b"',
         "set system root-authentication encrypted-password <removed>"),
        ("set snmp community public authorization read-only", "set snmp community <removed> authorization read-only"),
        ('    secret "$9$x"; ## SECRET-DATA', '    secret <removed>; ## SECRET-DATA'),
        ("/user add name=a password=plain group=full", "/user add name=a password=<removed> group=full"),
        ('/interface wireless security-profiles set wpa2-pre-shared-key="a b"',
         "/interface wireless security-profiles set wpa2-pre-shared-key=<removed>"),
        ("service password-encryption", "service password-encryption"),
        ("no service password-encryption", "no service password-encryption"),
        ("hostname router", "hostname router"),
        (" description password reset desk", " description password <removed> desk"),  # rather too much than too little
        ("router bgp 64512", "router bgp 64512"),
        ("crypto key generate rsa", "crypto key generate rsa"),
    ],
)  # fmt: skip
def test_secrets_of_a_configuration_are_removed_and_nothing_else(line: str, kept: str) -> None:
    assert configuration.masked([line]) == [kept]


def test_private_key_is_removed_whole() -> None:
    text = ["crypto pki", " -----BEGIN RSA PRIVATE KEY-----", " MIIEpA", " -----END RSA PRIVATE KEY-----", "end"]
    assert configuration.masked(text) == ["crypto pki", " <removed>", "end"]


def test_difference_in_secrets_alone_is_told_without_them() -> None:
    told = configuration.difference(["enable secret 5 a"], ["enable secret 5 b"])
    assert told == "Only secrets differ; they are not shown.\n"


@pytest.mark.parametrize(
    ("name", "line", "wrong"),
    [
        ("cisco_ios", "% Invalid input detected at '^' marker.", True),
        ("cisco_ios", "% Incomplete command.", True),
        ("cisco_ios", "Command rejected: Gi1/0/7 is not a switching port.", True),
        ("cisco_ios", "% 10.0.0.0 overlaps with Vlan1", True),
        ("cisco_ios", "%Warning: portfast should only be enabled on ports connected to a single", False),
        ("cisco_ios", "%SYS-5-CONFIG_I: Configured from console by netops on vty0", False),
        ("cisco_ios", "% Generating 2048 bit RSA keys, keys will be non-exportable...", False),
        ("frr", "% Unknown command: bogus", True),
        ("frr", "% Can't find static route specified", True),
        ("juniper_junos", "syntax error, expecting <command>.", True),
        ("juniper_junos", "error: configuration check-out failed", True),
        ("mikrotik_routeros", "bad command name bogus (line 1 column 1)", True),
        ("linux", "sh: 1: bogus: not found", True),
    ],
)
def test_complaint_is_told_from_chatter(name: str, line: str, wrong: bool) -> None:
    found = PLATFORMS[name]
    assert bool(said(found.error, [line]) or said(found.rejected, [line])) is wrong


def test_every_platform_says_how_it_complains_and_how_its_configuration_is_read() -> None:
    for one in PLATFORMS.values():
        assert one.error
        assert not one.configurable or one.running
        assert not one.save or one.saved
    assert platform("IOS") is platform("cisco_ios") is PLATFORMS["cisco_ios"]
    assert platform("windows") is None


def test_line_is_read_as_a_person_sees_it() -> None:
    assert cleaned(" --More-- " + "\x08" * 10 + " " * 10 + "\x08" * 10 + "interface a\r") == "interface a"
    assert cleaned("\r          \rinterface b\r") == "interface b"
    assert cleaned("\x1b[?2004hx\x1b[K\x1b[31my\x1b[0m") == "xy"


def test_way_back_of_set_lines() -> None:
    before, after = ["set a 1", "set b", "deactivate c"], ["set a 2", "set b"]
    assert configuration.way_back(before, after, JUNOS) == ["delete a 2", "set a 1", "deactivate c"]
    assert configuration.way_back(["a"], ["b"], PLATFORMS["mikrotik_routeros"]) is None


WORDS = st.sampled_from(["alpha", "beta", "no gamma", "delta 1", "delta 2", "description"])


def sections(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Lines with lines below them; a description has a value, and there is one of it."""
    return st.builds(
        lambda tree, value: {f"{k} {value}" if k == "description" else k: {} if k == "description" else v
                             for k, v in tree.items()},
        st.dictionaries(WORDS, inner, max_size=4), st.sampled_from("xy"),
    )  # fmt: skip


TREES = st.recursive(st.builds(dict[str, Any]), sections, max_leaves=12)


def printed(tree: dict[str, Any], indent: str = "") -> list[str]:
    lines: list[str] = []
    for line, inner in tree.items():
        lines += [indent + line, *printed(inner, indent + " ")]
        lines += [indent + "!"] * bool(inner)
    return lines


def entered(tree: dict[str, Any], lines: list[str]) -> dict[str, Any]:
    """A device that understands `no`, sections and `exit`: shares no code with what it judges."""
    path = [tree]
    depth = [0]
    for line in lines:
        text, indent = line.strip(), len(line) - len(line.lstrip())
        while depth[-1] > indent:
            path.pop()
            depth.pop()
        if text == "exit":
            path.pop()
            depth.pop()
            continue
        taken = text[3:] if text.startswith("no ") else ""
        if text == "no description":
            for old in [one for one in path[-1] if one.startswith("description ")]:
                del path[-1][old]
        elif taken and taken in path[-1]:
            del path[-1][taken]
        elif text == "gamma":  # what takes `no gamma` away
            path[-1].pop("no gamma", None)
        else:
            path.append(path[-1].setdefault(text, {}))
            depth.append(indent + 1)
    return tree


@settings(max_examples=150, deadline=None)
@given(before=TREES, after=TREES)
def test_way_back_leads_back(before: dict[str, Any], after: dict[str, Any]) -> None:
    lines = configuration.way_back(printed(before), printed(after), IOS)
    assert lines is not None
    assert entered(after, lines) == before
