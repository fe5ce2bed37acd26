"""The scripts behind the `file` step: beside its place first, then renamed, so that nobody reads a half. Pure."""

#: Is it there as it should be? With a backup an act that finds it so does nothing, so that trying again keeps the
#: backup; and one that is taken back removes only what is so, which the probe has said that it was not before.
_FILE_IS = """p={{ path }}
same() {
[ -f "$p" ] && [ "$(sha256sum < "$p" | cut -d' ' -f1)" = {{ sha }} ] || return 1
{% if mode %}[ "$(stat -c %a "$p")" = {{ mode }} ] || return 1
{% endif %}{% if owner %}[ "$(stat -c %U "$p")" = {{ owner }} ] || return 1
{% endif %}}
"""
_PROBE = "same || exit 0\nexit 1\n"
_ANEW = """{% if backup %}if same; then exit 0; fi
rm -rf -- "$p.msp-before"
{% endif %}"""
# The subshells keep their own EXIT traps: the script around them may have one too.
FILE = {
    "probe": _FILE_IS + _PROBE,
    "do": "set -e\n" + _FILE_IS + _ANEW + """t="$p.msp-$$"
umask 077
(trap 'rm -f -- "$t"' EXIT
cat > "$t"
if [ "$(sha256sum < "$t" | cut -d' ' -f1)" != {{ sha }} ]; then echo "the file arrived damaged" >&2; exit 5; fi
{% if mode %}chmod {{ mode }} "$t"
{% else %}if [ -e "$p" ]; then chmod "$(stat -c %a "$p")" "$t"; else chmod 644 "$t"; fi
{% endif %}{% if owner %}chown {{ owner }} "$t"
{% endif %}{% if backup %}if [ -e "$p" ]; then cp -p -- "$p" "$p.msp-before"; fi
{% endif %}mv -f -- "$t" "$p")
""",
    "undo": _FILE_IS + """if [ -e "$p.msp-before" ]; then mv -f -- "$p.msp-before" "$p"
elif same; then rm -f -- "$p"; fi
""",
}  # fmt: skip
ABSENT = {
    "probe": 'p={{ path }}; [ -e "$p" ] || [ -L "$p" ]\n',
    "do": """p={{ path }}
case "$p" in /|/bin|/boot|/dev|/etc|/home|/lib|/opt|/proc|/root|/sbin|/srv|/sys|/usr|/var|""|.|..)
  echo "refusing to remove $p" >&2; exit 5;; esac
{% if backup %}rm -rf -- "$p.msp-before"; mv -- "$p" "$p.msp-before"{% else %}rm -rf -- "$p"{% endif %}
""",
    "check": 'p={{ path }}; ! [ -e "$p" ] && ! [ -L "$p" ]\n',
    "undo": """p={{ path }}
if [ -e "$p.msp-before" ] && ! [ -e "$p" ] && ! [ -L "$p" ]; then mv -- "$p.msp-before" "$p"; fi
""",
}
FOLDER = {
    "probe": """p={{ path }}
[ -d "$p" ] || exit 0
{% if mode %}[ "$(stat -c %a "$p")" = {{ mode }} ] || exit 0
{% endif %}{% if owner %}[ "$(stat -c %U "$p")" = {{ owner }} ] || exit 0
{% endif %}exit 1
""",
    "do": """set -e
p={{ path }}
mkdir -p -- "$p"
{% if mode %}chmod {{ mode }} "$p"
{% endif %}{% if owner %}chown {{ owner }} "$p"
{% endif %}""",
    "undo": 'p={{ path }}; rmdir -- "$p" 2>/dev/null || true\n',
}
_SUMS = "find . -type f -exec sha256sum {} + | LC_ALL=C sort | sha256sum | cut -d' ' -f1"
#: Proves what lies in `$t` and puts it in place of `$p`; what was there is moved aside first.
_PLACED = f"""if [ "$(cd "$t" && {_SUMS})" != {{{{ sha }}}} ]; then echo "the files arrived damaged" >&2; exit 5; fi
{{% if mode %}}chmod {{{{ mode }}}} "$t"
{{% else %}}chmod 755 "$t"
{{% endif %}}{{% if owner %}}chown -R {{{{ owner }}}} "$t"
{{% endif %}}{{% if backup %}}o="$p.msp-before"; rm -rf -- "$o"
{{% endif %}}if [ -e "$p" ]; then mv -- "$p" "$o"; fi
mv -- "$t" "$p" || {{ if [ -e "$o" ]; then mv -- "$o" "$p"; fi; exit 5; }}
{{% if not backup %}}rm -rf -- "$o"
{{% endif %}})
"""
NO_TAR = 6  # exit status of the script that wants to unpack
_TREE_IS = f"""p={{{{ path }}}}
same() {{
[ -d "$p" ] && [ "$(cd "$p" && {_SUMS})" = {{{{ sha }}}} ] || return 1
{{% if mode %}}[ "$(stat -c %a "$p")" = {{{{ mode }}}} ] || return 1
{{% endif %}}{{% if owner %}}[ "$(stat -c %U "$p")" = {{{{ owner }}}} ] || return 1
{{% endif %}}}}
"""
TREE = {
    "probe": _TREE_IS + _PROBE,
    "do": "set -e\n" + _TREE_IS + f"""t="$p.msp-$$"; o="$p.msp-old-$$"
{_ANEW}command -v tar >/dev/null 2>&1 || {{ echo "this host has no tar" >&2; exit {NO_TAR}; }}
(trap 'rm -rf -- "$t"' EXIT
umask 077; mkdir -- "$t"; umask 022
tar -xof - -C "$t"
{_PLACED}""",
    "undo": _TREE_IS + """if [ -e "$p.msp-before" ]; then rm -rf -- "$p" && mv -- "$p.msp-before" "$p"
elif same; then rm -rf -- "$p"; fi
""",
}  # fmt: skip
# Without tar the files come over SFTP, as the account that logs in; if root acts, they wait in that account's home.
_ROOM = """{% if acting %}s="$HOME/.msp/in/"{{ mark }}
{% else %}p={{ path }}; s="$p.msp-in-"{{ mark }}
{% endif %}"""
STAGED = {
    "begin": f"""{_ROOM}umask 077
{{% if acting %}}mkdir -p -- "$HOME/.msp/in" || exit 5
{{% endif %}}rm -rf -- "$s"; mkdir -- "$s" && cd -- "$s" && pwd -P
""",
    "place": f"""set -e
{_TREE_IS}t="$p.msp-$$"; o="$p.msp-old-$$"
{_ANEW}(trap 'rm -rf -- "$t"' EXIT
{{% if acting %}}umask 077; cp -Rp -- "$s" "$t"; chown -R "$(id -u):$(id -g)" "$t"; umask 022
{{% else %}}mv -- "$s" "$t"
{{% endif %}}{_PLACED}""",
    "end": f"""{_ROOM}rm -rf -- "$s"
""",
}  #: "place" is told by `s` where they are
#: What the host says of it stands on the error stream; a file that changes meanwhile is no evidence.
FETCH = """p={{ path }}
[ -f "$p" ] || { echo "there is no file $p" >&2; exit 3; }
a=$(sha256sum < "$p" | cut -d' ' -f1)
cat -- "$p" || exit 5
if [ "$(sha256sum < "$p" | cut -d' ' -f1)" != "$a" ]; then echo "$p changed while it was read" >&2; exit 5; fi
echo "sha256 $a" >&2
"""
