"""Turn an action of a playbook into what goes over the wire: a POSIX script with its standard input. Pure.

Files, services and packages prove themselves: from one action come the probe, the act, the check and the undo.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from msp.errors import Misconfigured
from msp.remote import beside, file_scripts, rebooting, render
from msp.remote import payload as payloads
from msp.remote.playbook_part import Special
from msp.remote.playbook_steps import (
    FOR_POSIX,
    FOR_WINDOWS,
    Action,
    Assert,
    File,
    Http,
    Package,
    Reboot,
    Service,
    Step,
    WaitFor,
)
from msp.remote.rebooting import Restart
from msp.remote.render import Script, Staged
from msp.remote.transport import Work, speaks
from msp.secret import Secret


@dataclass(frozen=True, slots=True)
class Condition:
    """An act that needs no wire: expressions, and what to say when one is false."""

    that: tuple[str, ...]
    message: str


@dataclass(frozen=True, slots=True)
class Question:
    """An act that a person answers."""

    who: str
    message: str


_SCRIPTS = FOR_WINDOWS | {"shell"}
Act = Script | Condition | Question | Restart | Work

_ACTIVE = 'if command -v systemctl >/dev/null 2>&1; then systemctl is-active --quiet "$s"; else service "$s" status >/dev/null 2>&1; fi'  # noqa: E501
_ACT = 'if command -v systemctl >/dev/null 2>&1; then systemctl %s "$s"; else service "$s" %s; fi'
_SERVICE = {
    "started": (f"! {{ {_ACTIVE}; }}", _ACT % ("start", "start"), _ACTIVE, _ACT % ("stop", "stop")),
    "stopped": (_ACTIVE, _ACT % ("stop", "stop"), f"! {{ {_ACTIVE}; }}", _ACT % ("start", "start")),
    "restarted": ("", _ACT % ("restart", "restart"), _ACTIVE, ""),
    "reloaded": ("", _ACT % ("reload", "reload"), _ACTIVE, ""),
    "enabled": ('! systemctl is-enabled --quiet "$s"', 'systemctl enable "$s"', 'systemctl is-enabled --quiet "$s"',
                'systemctl disable "$s"'),
    "disabled": ('systemctl is-enabled --quiet "$s"', 'systemctl disable "$s"', '! systemctl is-enabled --quiet "$s"',
                 'systemctl enable "$s"'),
}  # fmt: skip
_INSTALLED = """installed() {
  if command -v dpkg-query >/dev/null 2>&1; then dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q 'ok installed'
  elif command -v rpm >/dev/null 2>&1; then rpm -q "$1" >/dev/null 2>&1
  elif command -v apk >/dev/null 2>&1; then apk info -e "$1" >/dev/null 2>&1
  else echo "no package manager that we know" >&2; exit 5; fi
}
"""
_MANAGER = """manage() {
  if command -v apt-get >/dev/null 2>&1; then
    export DEBIAN_FRONTEND=noninteractive
    if [ "$1" = add ]; then shift; apt-get -q -y install "$@"; else shift; apt-get -q -y remove "$@"; fi
  elif command -v dnf >/dev/null 2>&1; then
    if [ "$1" = add ]; then shift; dnf -q -y install "$@"; else shift; dnf -q -y remove "$@"; fi
  elif command -v yum >/dev/null 2>&1; then
    if [ "$1" = add ]; then shift; yum -q -y install "$@"; else shift; yum -q -y remove "$@"; fi
  elif command -v zypper >/dev/null 2>&1; then
    if [ "$1" = add ]; then shift; zypper -q -n install "$@"; else shift; zypper -q -n remove "$@"; fi
  elif command -v apk >/dev/null 2>&1; then
    if [ "$1" = add ]; then shift; apk add "$@"; else shift; apk del "$@"; fi
  else echo "no package manager that we know" >&2; exit 5; fi
}
"""
_PRESENT = {
    "probe": _INSTALLED + "for p in {{ names }}; do installed \"$p\" || exit 0; done\nexit 1\n",
    "do": _MANAGER + "manage add {{ names }}\n",
    "check": _INSTALLED + "for p in {{ names }}; do installed \"$p\" || exit 1; done\n",
}  # fmt: skip
_GONE = {
    "probe": _INSTALLED + "for p in {{ names }}; do installed \"$p\" && exit 0; done\nexit 1\n",
    "do": _MANAGER + "manage remove {{ names }}\n",
    "check": _INSTALLED + "for p in {{ names }}; do installed \"$p\" && exit 1; done\nexit 0\n",
}  # fmt: skip
_WAIT = """end=$(( $(date +%s) + {{ seconds }} ))
ready() {
{% if port %}  a={{ address }}; n={{ port }}
  if command -v bash >/dev/null 2>&1; then bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$a" "$n" 2>/dev/null
  else nc -z "$a" "$n" >/dev/null 2>&1; fi
{% elif path %}  [ -e {{ path }} ]
{% else %}  ( {{ command | raw }}
  ) >/dev/null 2>&1
{% endif %}}
while {% if not absent %}! {% endif %}ready; do
  if [ "$(date +%s)" -ge "$end" ]; then echo "waited in vain for {{ what }}" >&2; exit 1; fi
  sleep {{ every }}
done
"""
_HTTP = """command -v curl >/dev/null 2>&1 || { echo "this host has no curl" >&2; exit 5; }
t=$(mktemp) || exit 5
(trap 'rm -f -- "$t"' EXIT
code=$(curl -sS{% if not verify %}k{% endif %} -m {{ seconds }} -X {{ method }} -o "$t" -w '%{http_code}' \
{% for header in headers %}-H {{ header }} {% endfor %}{% if body is not none %}--data-binary {{ body }} {% endif %}\
-- {{ url }}) || exit 7
echo "status $code"
case "$code" in {{ wanted | raw }}) ;; *) echo "status $code is not what was expected" >&2; exit 1;; esac
{% if contains %}grep -qF -e {{ contains }} "$t" || { echo "the answer lacks the expected text" >&2; exit 1; }
{% endif %})
"""


def has(step: Step, phase: str) -> bool:
    """Return whether a step may have an act in a phase: cheap, and certain where it says no."""
    return phase == "do" or getattr(step, phase) is not None or isinstance(step.do.act, File | Service | Package)


def alike(step: Step, phase: str) -> bool:
    """Return whether a phase is the same act on every host of one platform: cheap, and certain where it says yes."""
    action: Action | None = getattr(step, phase)
    if action is None:
        return not has(step, phase)
    act = action.act
    if isinstance(act, Assert):
        return "{" not in act.message
    return action.kind in _SCRIPTS and "{" not in act.script


class Acts:
    """Makes acts for one step on one host. `scope` is what templates see; `secrets` names what is secret in it."""

    def __init__(
        self,
        scope: Mapping[str, Any],
        *,
        secrets: frozenset[str],
        timeout: timedelta,
        folder: beside.Folder | None,
        what: str,
        token: str = "",
        become: str = "",
    ) -> None:
        """token: by which the host knows this effect again. become: account that acts, if another than logs in."""
        self._scope, self._secrets, self._timeout = scope, secrets, timeout
        self._folder, self._what, self._token, self._become = folder, what, token, become

    def of(self, step: Step, phase: str) -> Act | None:
        """Return the act of one phase of a step, or None if the step has none.

        Raises render.UndefinedName or Misconfigured, and Misconfigured for a kind that needs another way in.
        """
        written: Action | None = getattr(step, phase)
        if written is not None and (phase != "do" or written.kind not in ("file", "service", "package")):
            return self._act(written)
        if phase in ("probe", "check") or (phase == "undo" and written is None) or phase == "do":
            proving = step.do.act
            if isinstance(proving, File | Service | Package):
                self._fits(step.do.kind)
                return self._proving(proving, phase)
        return None

    def _fits(self, kind: str) -> None:
        """Raise Misconfigured for a script that the host's platform does not understand."""
        host = self._scope.get("host")
        if host is None:
            return
        name, windows = host["name"], host["platform"] == "windows"
        if kind in FOR_POSIX and windows:
            what = f"{self._what}: steps of kind {kind} are scripts for sh, and {name} is a Windows host."
            raise Misconfigured(what, advice="Use powershell or cmd.")
        if kind in FOR_WINDOWS and not windows:
            what = f"{self._what}: steps of kind {kind} are for Windows, and {name} is a {host['platform']} host."
            raise Misconfigured(what, advice="Use shell, or run it on hosts with platform windows.")

    def _field(self, template: str) -> Any:
        """Return a field filled in; a Secret if a secret stands in it."""
        filled = render.text(template, self._scope, self._what)
        if self._secrets and any(name in self._secrets for name, _ in render.names_in(template)):
            return Secret(filled)
        return filled

    def _script(self, template: str, **values: Any) -> Script:
        return render.script(template, values, self._what)

    def _act(self, action: Action) -> Act:
        act = action.act
        if speaks(act, Special):
            return cast("Special", act).work(self._field, self._folder, self._what)
        self._fits(action.kind)
        if action.kind in FOR_WINDOWS:
            return render.script(f"#!{action.kind}\n{act.script}", self._scope, self._what)
        if action.kind == "shell":
            return render.script(act.script, self._scope, self._what)
        if isinstance(act, Assert):
            return Condition(act.that, str(self._shown(act.message)))
        if action.kind == "approve":
            return Question(str(self._field(act.who)), str(self._shown(act.message)))
        if isinstance(act, WaitFor):
            return self._wait_for(act)
        if isinstance(act, Http):
            return self._http(act)
        if isinstance(act, Reboot):
            return self._reboot(act)
        if isinstance(act, File | Service | Package):
            found = self._proving(act, "do")
            if found is not None:
                return found
        raise Misconfigured(f"{self._what}: steps of kind {action.kind} cannot run here.")

    def _shown(self, template: str) -> str:
        return str(self._field(template)) if template else ""

    def _proving(self, act: File | Service | Package, phase: str) -> Script | None:
        if isinstance(act, Service):
            chosen = _SERVICE[act.state][("probe", "do", "check", "undo").index(phase)]
            if not chosen:
                return None
            return self._script("s={{ name }}\n" + chosen + "\n", name=self._field(act.name))
        if isinstance(act, Package):
            names = [self._field(name) for name in ([act.name] if isinstance(act.name, str) else act.name)]
            table = _GONE if act.state == "absent" else _PRESENT
            if phase == "undo" or (act.state == "latest" and phase == "probe"):
                return None
            return self._script(table[phase], names=[word for name in names for word in str(name).split()])
        return self._file(act, phase)

    def _file(self, act: File, phase: str) -> Script | None:
        values = {"path": self._field(act.path), "mode": (act.mode or "").lstrip("0") or act.mode,
                  "owner": self._field(act.owner) if act.owner else None, "backup": act.backup}  # fmt: skip
        if act.state == "fetched":
            return self._script(file_scripts.FETCH, **values) if phase == "do" else None
        if phase == "undo" and not act.backup:
            return None
        if act.state == "absent":
            return self._script(file_scripts.ABSENT[phase], **values)
        if act.state == "folder":
            if phase == "check":
                return self._negated(file_scripts.FOLDER["probe"], values)
            return self._script(file_scripts.FOLDER[phase], **values)
        scripts, stdin, payload = file_scripts.FILE, b"", None
        if act.source is not None:
            path = self._source(act.source)
            try:
                payload, values["sha"] = (payloads.of_folder if path.is_dir() else payloads.of_file)(path)
            except OSError as error:
                raise Misconfigured(f"{self._what}: {act.source} cannot be read: {error.strerror}.") from error
            beside.insist(self._folder or path, path, values["sha"], self._what)
            scripts = file_scripts.TREE if path.is_dir() else scripts
        else:
            stdin = render.text(act.content or "", self._scope, self._what).encode("utf-8", "surrogateescape")
            values["sha"] = hashlib.sha256(stdin).hexdigest()
        if phase == "check":
            return self._negated(scripts["probe"], values)
        found = self._script(scripts[phase], **values)
        if phase != "do":
            return found
        staged = None
        if payload is not None and payload.tree is not None and self._become in ("", "root"):
            values |= {"acting": bool(self._become), "mark": self._token or f"msp-{values['sha'][:24]}"}
            parts = file_scripts.STAGED
            staged = Staged(*(self._script(parts[name], **values) for name in ("begin", "place", "end")))
        return Script(found.text, found.stdin + stdin, found.reads_secrets, payload, staged)

    def _negated(self, probe: str, values: Mapping[str, Any]) -> Script:
        """A check that succeeds exactly when the probe says that nothing is needed."""
        return self._script("(\n" + probe + ")\n[ $? -eq 1 ]\n", **values)

    def _source(self, source: str) -> Path:
        """Return the file or folder beside the playbook that is to be copied."""
        if self._folder is None:
            raise Misconfigured(f"{self._what}: a file is to be copied, but the playbook has no folder.")
        return beside.find(self._folder, str(self._field(source)), self._what)

    def _wait_for(self, act: WaitFor) -> Script:
        command = render.script(act.command, self._scope, self._what) if act.command is not None else Script("")
        found = self._script(
            _WAIT,
            port=None if act.port is None else self._field(str(act.port)),
            path=None if act.path is None else self._field(act.path),
            command=render.Raw(command.text),
            address=self._field(act.address),
            absent=act.absent,
            every=f"{act.every.total_seconds():g}",
            seconds=max(1, int(self._timeout.total_seconds()) - 1),
            what=re.sub(r"[^\w ./:-]", "_", str(act.port or act.path or "the command")),
        )
        return Script(found.text, command.stdin + found.stdin, command.reads_secrets + found.reads_secrets)

    def _http(self, act: Http) -> Script:
        wanted = act.status if isinstance(act.status, tuple) else (act.status,)
        return self._script(
            _HTTP,
            url=self._field(act.url),
            method=act.method,
            seconds=max(1, int(self._timeout.total_seconds())),
            headers=[self._joined(name, value) for name, value in act.headers.items()],
            body=None if act.body is None else self._field(act.body),
            wanted="|".join(str(int(code)) for code in wanted),
            contains=self._field(act.contains) if act.contains else None,
            verify=act.verify,
        )

    def _reboot(self, act: Reboot) -> Restart:
        command = Script(rebooting.COMMAND)
        if act.command is not None:
            command = render.script(act.command, self._scope, self._what)
        values = {"boot_id": self._field(act.boot_id), "token": render.Raw(self._token or "boot"),
                  "command": render.Raw(command.text), "message": self._shown(act.message)}  # fmt: skip
        begin = self._script(rebooting.BEGIN, **values)
        both = Script(begin.text, command.stdin + begin.stdin, command.reads_secrets + begin.reads_secrets)
        return Restart(both, self._script(rebooting.ASK, **values), act.wait)

    def _joined(self, name: str, value: str) -> Any:
        filled = self._field(value)
        return Secret(f"{name}: {filled.value}") if isinstance(filled, Secret) else f"{name}: {filled}"
