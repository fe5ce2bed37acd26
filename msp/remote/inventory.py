"""Lists of hosts for ad-hoc runs: our own lines, an Ansible inventory (INI or YAML), or an OpenSSH configuration.

Our lines: `name address port user key=/path hostkey=/path|"ssh-ed25519 AAAA..."`; `#` begins a comment. Further words:
transport=, platform=, kind=, password=REFERENCE, become_password=REFERENCE, via=BASTION, run=no (it is only a
bastion), credential=ca (certificates of our own), plain=REASON (VNC may go there unencrypted); for WinRM auth=,
scheme=, ca=, host=, and the fingerprint of its certificate as hostkey=sha256:HEX. A path is taken from the folder of
the list.
"""

import configparser
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from msp.errors import Misconfigured
from msp.remote.target import PORTS, Credential, CredentialSource, Target
from msp.remote.ways import led
from msp.remote.winrm.access import pin as certificate_pin
from msp.secret import Secret

_QUOTED = re.compile(r'(?:[^ \t\r\n"]|"[^"]*")+')
_KEY = re.compile(r"((?:ssh-|ecdsa-sha2-|sk-)\S+)\s+(AAAA[A-Za-z0-9+/=]+)")
_WORDS = ("key", "hostkey", "password", "become_password", "transport", "platform", "kind", "port", "user", "address",
          "via", "run", "credential", "plain", "auth", "scheme", "ca", "host")  # fmt: skip

_WINRM = ("auth", "scheme", "ca", "host")  # words that become facts winrm_auth, ...


def host_keys(text: str) -> tuple[str, ...]:
    """Return the public keys and the pins of certificates in a text, whatever stands around them."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith(("#", "@revoked"))]
    keys = [f"{found[1]} {found[2]}" for line in lines for found in _KEY.finditer(line)]
    pins = [pin for line in lines for word in line.split() if (pin := certificate_pin(word))]
    return tuple(dict.fromkeys(keys + pins))


def read_hosts(
    path: Path, *, secret: Callable[[str], Secret], certificates: CredentialSource | None = None
) -> list[Target]:
    """Return the hosts of our own list. Raises Misconfigured with the line that cannot be read.

    certificates: makes the credentials of hosts with `credential=ca`; None where there is no installation.
    """
    targets: dict[str, Target] = {}
    jumps: dict[str, str] = {}
    unused: set[str] = set()
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            name, given = _words(line)
            target = _target(name, given, path.parent, secret)
            if given.get("credential") == "ca":
                if certificates is None:
                    raise ValueError("credential=ca needs an installation with an authority (msp ca create)")
                target = replace(target, credential=replace(target.credential, source=certificates))
            elif "credential" in given:
                raise ValueError(f"credential={given['credential']} is not known; only credential=ca is")
            jumps[name] = given.get("via", "")
            if given.get("run", "yes") not in ("yes", "no"):
                raise ValueError(f"run={given['run']} is neither run=yes nor run=no")
            if given.get("run") == "no":
                unused.add(name)
        except ValueError as error:
            raise Misconfigured(
                f"{path}:{number}: {error}.", advice="Write: name address port user key=/path hostkey=/path."
            ) from error
        if target.name in targets:
            raise Misconfigured(f"{path}:{number}: host {target.name} stands here twice.", advice="Name it once.")
        targets[target.name] = target
    return _some([target for name, target in _led(path, targets, jumps).items() if name not in unused], path)


def _led(path: Path, targets: Mapping[str, Target], jumps: Mapping[str, str]) -> dict[str, Target]:
    try:
        return led(targets, jumps)
    except Misconfigured as error:
        raise Misconfigured(f"{path}: {error.what}", advice=error.advice) from error


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise Misconfigured(f"{path} cannot be read: {error.strerror}.", advice="Name a list of hosts.") from error
    except UnicodeDecodeError as error:
        raise Misconfigured(f"{path} is not UTF-8 text.", advice="Name a list of hosts.") from error


def _some(targets: list[Target], path: Path) -> list[Target]:
    if not targets:
        raise Misconfigured(f"{path} names no host.", advice="Write: name address port user key=/path hostkey=/path.")
    return targets


def split_line(line: str) -> list[str]:
    """Return what shlex.split does, at a tenth of its cost for a line of plain words and double quotes."""
    if line.count('"') % 2 or any(mark in line for mark in "'\\#"):
        return shlex.split(line, comments=True)
    return [word.replace('"', "") for word in _QUOTED.findall(line)]


def _words(line: str) -> tuple[str, dict[str, str]]:
    """Return the name and the words of a line; raises ValueError."""
    words = split_line(line)
    plain: list[str] = []
    given: dict[str, str] = {}
    last = ""
    for word in words:
        name, equals, value = word.partition("=")
        if equals and name in _WORDS:
            given[name], last = value, name
        elif last == "hostkey" and word.startswith("AAAA"):  # an unquoted key: two words, perhaps a comment
            given["hostkey"] += f" {word}"
        elif last:
            if not given.get("hostkey", "").count(" "):
                raise ValueError(f"{word!r} is not understood")
        else:
            plain.append(word)
    if len(plain) > 4:
        raise ValueError(f"{plain[4]!r} is not understood")
    name, address, port, user = (plain + [""] * 4)[:4]
    if not name:
        raise ValueError("the name is missing")
    return name, {"address": address, "port": port, "user": user} | {
        key: value for key, value in given.items() if value
    }


def _target(name: str, given: Mapping[str, str], folder: Path, secret: Callable[[str], Secret]) -> Target:
    port = given.get("port") or str(PORTS.get(given.get("transport", ""), 22))
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"port {port!r} is not a port number")
    pins: tuple[str, ...] = ()
    if hostkey := given.get("hostkey"):
        pins = host_keys(hostkey)
        if not pins:
            path = folder / Path(hostkey).expanduser()
            try:
                pins = host_keys(path.read_text("utf-8", "replace"))
            except OSError as error:
                raise ValueError(f"the host key file {path} cannot be read: {error.strerror}") from error
            if not pins:
                raise ValueError(f"{path} holds no public key")
    password, windows = given.get("password"), given.get("transport") == "winrm"
    return Target(
        name=name,
        address=given.get("address") or name,
        port=int(port),
        credential=Credential(
            user=given.get("user") or ("Administrator" if windows else "root"),
            key_file=folder / Path(given["key"]).expanduser() if given.get("key") else None,
            password=secret(password) if password else None,
            become_password=secret(given["become_password"]) if given.get("become_password") else None,
        ),
        host_keys=pins,
        transport=given.get("transport") or "ssh",
        platform=given.get("platform") or ("windows" if windows else "linux"),
        kind=given.get("kind") or "server",
        plain=given.get("plain", ""),
        facts=MappingProxyType({f"winrm_{word}": given[word] for word in _WINRM if given.get(word)}),
    )


def read_inventory(path: Path, *, secret: Callable[[str], Secret], known_hosts: Path | None = None) -> list[Target]:
    """Return the hosts of an Ansible inventory or an OpenSSH configuration; the content tells which it is.

    known_hosts: an OpenSSH known_hosts file that pins the hosts for which the list itself holds no key.
    """
    text = _text(path)
    try:
        if path.suffix in (".yml", ".yaml"):
            entries = dict(_from_yaml(text))
        elif re.search(r"(?mi)^\s*host\s+\S", text) and "[" not in text.split("\n", 1)[0]:
            entries, known = _from_ssh_config(text)
            known_hosts = known_hosts or known
        else:
            entries = dict(_from_ini(text))
        targets = {name: _target(name, given, path.parent, secret) for name, given in entries.items()}
    except (ValueError, configparser.Error) as error:
        raise Misconfigured(f"{path}: {error}.", advice="Give an Ansible inventory or an OpenSSH config.") from error
    ready = list(_led(path, targets, {name: given.get("via", "") for name, given in entries.items()}).values())
    if known_hosts and known_hosts.exists():
        pin = _pinner(known_hosts)
        ready = [replace(pin(target), via=tuple(pin(hop) for hop in target.via)) for target in ready]
    return _some(ready, path)


_ANSIBLE = {
    "ansible_host": "address",
    "ansible_ssh_host": "address",
    "ansible_port": "port",
    "ansible_ssh_port": "port",
    "ansible_user": "user",
    "ansible_ssh_user": "user",
    "ansible_ssh_private_key_file": "key",
    "ansible_private_key_file": "key",
    "msp_host_key": "hostkey",
    "msp_platform": "platform",
    "msp_kind": "kind",
    "ansible_winrm_transport": "auth",
    "ansible_winrm_scheme": "scheme",
    "ansible_winrm_ca_trust_path": "ca",
    "ansible_winrm_kerberos_hostname_override": "host",
}


_ANSIBLE_JUMP = re.compile(r"(?:-J\s*|-o\s*[\"']?ProxyJump[=\s]\s*)([^\s\"']+)", re.IGNORECASE)


def _ansible(variables: Mapping[str, Any]) -> dict[str, str]:
    given = {_ANSIBLE[name]: str(value) for name, value in variables.items() if name in _ANSIBLE}
    if (way := str(variables.get("ansible_connection", ""))) in ("local", "winrm"):
        given["transport"] = way
    arguments = f"{variables.get('ansible_ssh_common_args') or ''} {variables.get('ansible_ssh_extra_args') or ''}"
    if jump := _ANSIBLE_JUMP.search(arguments):
        given["via"] = jump[1]
    return given


def _expanded(pattern: str) -> Iterator[str]:
    """Yield the names of `web[01:20].example`."""
    found = re.search(r"\[(\d+):(\d+)\]", pattern)
    if not found:
        yield pattern
        return
    for number in range(int(found[1]), int(found[2]) + 1):
        name = f"{pattern[: found.start()]}{number:0{len(found[1])}d}{pattern[found.end() :]}"
        yield from _expanded(name)


def _from_ini(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    hosts: dict[str, dict[str, str]] = {}
    groups: dict[str, set[str]] = {"all": set()}
    variables: dict[str, dict[str, str]] = {}
    children: dict[str, set[str]] = {}
    section, kind = "ungrouped", ""
    for line in text.splitlines():
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith("["):
            section, _, kind = line.strip("[]").partition(":")
        elif kind == "vars":
            name, _, value = line.partition("=")
            variables.setdefault(section, {})[name.strip()] = value.strip().strip("'\"")
        elif kind == "children":
            children.setdefault(section, set()).add(line)
        else:
            pattern, *words = shlex.split(line, comments=True)
            for name in _expanded(pattern):
                pairs = (word.partition("=") for word in words)
                hosts.setdefault(name, {}).update({key: value for key, equals, value in pairs if equals})
                groups.setdefault(section, set()).add(name)
                groups["all"].add(name)

    def members(group: str, seen: frozenset[str] = frozenset()) -> set[str]:
        below = children.get(group, set()) - seen
        return groups.get(group, set()).union(*(members(child, seen | {group}) for child in below))

    inherited: dict[str, dict[str, str]] = {name: {} for name in hosts}
    for group in sorted(variables, key=lambda name: (name != "all", -len(members(name)))):
        for name in members(group):
            inherited[name].update(variables[group])
    for name, own in hosts.items():
        yield name, _ansible(inherited[name] | own)


def _from_yaml(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    import yaml

    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"it is not valid YAML: {error}") from error
    found: dict[str, dict[str, Any]] = {}

    def walk(group: Any, inherited: Mapping[str, Any]) -> None:
        if not isinstance(group, dict):
            return
        variables = {**inherited, **(group.get("vars") or {})}
        for pattern, own in (group.get("hosts") or {}).items():
            for name in _expanded(str(pattern)):
                found[name] = {**found.get(name, {}), **variables, **(own or {})}
        for child in (group.get("children") or {}).values():
            walk(child, variables)

    if not isinstance(tree, dict):
        raise ValueError("it is no inventory")
    for group in tree.values():
        walk(group, {})
    for name, variables in found.items():
        yield name, _ansible(variables)


def _from_ssh_config(text: str) -> tuple[dict[str, dict[str, str]], Path | None]:
    """Return the named hosts; options under patterns apply to them, the first value of an option counts."""
    from fnmatch import fnmatchcase

    blocks: list[tuple[list[str], dict[str, str]]] = [(["*"], {})]
    for line in text.splitlines():
        words = shlex.split(line.replace("=", " ", 1) if re.match(r"\s*\w+=", line) else line, comments=True)
        if not words:
            continue
        key = words[0].lower()
        if key == "host":
            blocks.append((words[1:], {}))
        elif len(words) > 1:
            blocks[-1][1].setdefault(key, words[1])
    names = [name for patterns, _ in blocks[1:] for name in patterns if not re.search(r"[*?!]", name)]
    ours = {"hostname": "address", "port": "port", "user": "user", "identityfile": "key", "proxyjump": "via"}
    entries: dict[str, dict[str, str]] = {}
    known: Path | None = None
    for name in names:
        given = entries.setdefault(name, {})
        for patterns, options in blocks:
            if any(fnmatchcase(name, one) for one in patterns) and not any(
                one.startswith("!") and fnmatchcase(name, one[1:]) for one in patterns
            ):
                for option, word in ours.items():
                    if option in options:
                        given.setdefault(word, options[option].replace("%h", name))
                if "userknownhostsfile" in options:
                    known = known or Path(options["userknownhostsfile"]).expanduser()
    return entries, known


def _pinner(known_hosts: Path) -> Callable[[Target], Target]:
    """Return a function that adds keys of a known_hosts file, hashed names included, to a target that has none."""
    import asyncssh

    try:
        known = asyncssh.import_known_hosts(known_hosts.read_text("utf-8", "replace"))
    except (ValueError, OSError) as error:
        raise Misconfigured(f"{known_hosts} cannot be used: {error}.", advice="Give a known_hosts file.") from error

    def pin(target: Target) -> Target:
        if target.host_keys:
            return target
        port = None if target.port == 22 else target.port
        keys = known.match(target.address, target.address, port)[0] or known.match(target.name, "", port)[0]
        lines = tuple(key.export_public_key("openssh").decode().strip() for key in keys)
        return replace(target, host_keys=host_keys("\n".join(lines)))

    return pin
