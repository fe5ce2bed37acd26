"""What a command leaves on its host, so that it can be found again by its token: at work, ended, or gone. Pure.

A marked script carries its token in its environment, and in a file of its account's home it writes its process number
when it begins and its exit status when it ends. A lost connection does not end it (there is no terminal): what it
prints then goes nowhere, and a program that it started may end by that (SIGPIPE).
"""

import re
import shlex
from dataclasses import replace
from datetime import timedelta

from msp.remote.outcome import Outcome, of_exit
from msp.remote.render import Script
from msp.remote.winrm import bootstrap

FOLDER = ".msp/steps"  # in the home of the account that the command runs as
_SHELLS = re.compile(r"#!(?:/usr)?/bin/(?:env )?(?:sh|bash|dash|ash|ksh)\s*")
_TOLD = re.compile(rb"msp: ended (\d+)$", re.MULTILINE)

# No process is started for it, but by one step in a hundred, which takes away what is older than a fortnight.
_BEGIN = """export MSP_STEP=%s_; msp_t="$HOME/.msp/steps"; \
[ -d "$msp_t" ] || (umask 077; mkdir -p "$msp_t") 2>/dev/null; \
case $$ in *00) find "$msp_t" -type f -mtime +14 -exec rm -f {} + 2>/dev/null;; esac; \
msp_t="$msp_t/$MSP_STEP"; { echo $$ >"$msp_t"; } 2>/dev/null; trap : PIPE; \
trap '{ echo "$$ $?" >"$msp_t"; } 2>/dev/null' EXIT; """

#: Who carries the token; the brackets keep the search from finding itself.
_FOUND = """t=%s_
found() { grep -ls "MSP_STEP[=]$t" /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | cut -d/ -f3 | sort -u; }
"""
#: Is a command marked with the token still at work? Exit status 0 yes, 1 no.
_ALIVE = _FOUND + '[ -n "$(found)" ]\n'
_ASK = (
    _FOUND
    + """f="$HOME/.msp/steps/$t"; end=$(( $(date +%%s) + %d ))
while :; do
  p=; s=; [ -r "$f" ] && read -r p s <"$f"
  if [ -n "$s" ]; then echo "msp: ended $s"; exit 0; fi
  if [ -z "$(found)" ]; then
    [ -r "$f" ] && read -r p s <"$f"
    if [ -n "$s" ]; then echo "msp: ended $s"; exit 0; fi
    if [ -n "$p" ]; then echo "msp: gone"; else echo "msp: unknown"; fi
    exit 0
  fi
  if [ "$(date +%%s)" -ge "$end" ]; then echo "msp: running"; exit 0; fi
  sleep 1
done
"""
)
_KILL = (
    _FOUND
    + """for s in TERM KILL; do
  n=0
  while p=$(found); [ -n "$p" ] && [ $n -lt 5 ]; do
    [ $n -eq 0 ] && kill -s $s $p 2>/dev/null
    n=$((n + 1)); sleep 0.1 2>/dev/null || sleep 1
  done
  [ -z "$p" ] && { echo "msp: gone"; exit 0; }
done
exit 1
"""
)


def marked(script: Script, token: str) -> Script:
    """Return a script that can be found again by its token; one for another interpreter than a shell stays as it is."""
    if not token:
        return script
    if (for_windows := bootstrap.marked(script.text, token)) is not None:
        return replace(script, text=for_windows)
    head, body = "", script.text
    if body.startswith("#!"):
        head, _, body = body.partition("\n")
        if not _SHELLS.fullmatch(head):
            return script
        head += "\n"
    return replace(script, text=head + _BEGIN % token + body)


def alive(token: str, platform: str) -> str:
    """Return the script that asks whether a marked command is at work: exit status 0 yes, 1 no."""
    return bootstrap.ALIVE % token if platform == "windows" else _ALIVE % shlex.quote(token)


def ask(token: str, wait: timedelta) -> str:
    """Return the script that asks how a marked command ended, and waits for its end if it is at work."""
    return _ASK % (shlex.quote(token), max(0, int(wait.total_seconds())))


def told(stdout: bytes) -> Outcome | None:
    """Return how the command ended by the answer to `ask`, or None if its host does not know."""
    found = _TOLD.search(stdout)
    return of_exit(int(found[1])) if found else None


def kill(token: str) -> str:
    """Return the script that ends a marked command with all it started: exit status 0 when nothing of it is left."""
    return _KILL % shlex.quote(token)
