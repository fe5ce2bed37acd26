"""The scripts behind the `file` step: beside its place first, then renamed, so that nobody reads a half. Pure."""

# The subshells keep their own EXIT traps: the script around them may have one too.
FILE = {
    "probe": """p={{ path }}
[ -f "$p" ] || exit 0
[ "$(sha256sum < "$p" | cut -d' ' -f1)" = {{ sha }} ] || exit 0
{% if mode %}[ "$(stat -c %a "$p")" = {{ mode }} ] || exit 0
{% endif %}{% if owner %}[ "$(stat -c %U "$p")" = {{ owner }} ] || exit 0
{% endif %}exit 1
""",
    "do": """set -e
p={{ path }}; t="$p.msp-$$"
umask 077
(trap 'rm -f -- "$t"' EXIT
cat > "$t"
if [ "$(sha256sum < "$t" | cut -d' ' -f1)" != {{ sha }} ]; then echo "the file arrived damaged" >&2; exit 5; fi
{% if backup %}if [ -e "$p" ]; then cp -p -- "$p" "$p.msp-before"; fi
{% endif %}{% if mode %}chmod {{ mode }} "$t"
{% else %}if [ -e "$p" ]; then chmod "$(stat -c %a "$p")" "$t"; else chmod 644 "$t"; fi
{% endif %}{% if owner %}chown {{ owner }} "$t"
{% endif %}mv -f -- "$t" "$p")
""",
    "undo": """p={{ path }}
if [ -e "$p.msp-before" ]; then mv -f -- "$p.msp-before" "$p"; else rm -f -- "$p"; fi
""",
}
ABSENT = {
    "probe": 'p={{ path }}; [ -e "$p" ] || [ -L "$p" ]\n',
    "do": """p={{ path }}
case "$p" in /|/bin|/boot|/dev|/etc|/home|/lib|/opt|/proc|/root|/sbin|/srv|/sys|/usr|/var|""|.|..)
  echo "refusing to remove $p" >&2; exit 5;; esac
{% if backup %}rm -rf -- "$p.msp-before"; mv -- "$p" "$p.msp-before"{% else %}rm -rf -- "$p"{% endif %}
""",
    "check": 'p={{ path }}; ! [ -e "$p" ] && ! [ -L "$p" ]\n',
    "undo": 'p={{ path }}; if [ -e "$p.msp-before" ]; then mv -- "$p.msp-before" "$p"; fi\n',
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
TREE = {
    "probe": f"""p={{{{ path }}}}
[ -d "$p" ] || exit 0
[ "$(cd "$p" && {_SUMS})" = {{{{ sha }}}} ] || exit 0
{{% if mode %}}[ "$(stat -c %a "$p")" = {{{{ mode }}}} ] || exit 0
{{% endif %}}{{% if owner %}}[ "$(stat -c %U "$p")" = {{{{ owner }}}} ] || exit 0
{{% endif %}}exit 1
""",
    "do": f"""set -e
p={{{{ path }}}}; t="$p.msp-$$"; o="$p.msp-old-$$"
command -v tar >/dev/null 2>&1 || {{ echo "this host has no tar" >&2; exit 6; }}
(trap 'rm -rf -- "$t"' EXIT
umask 077; mkdir -- "$t"; umask 022
tar -xof - -C "$t"
if [ "$(cd "$t" && {_SUMS})" != {{{{ sha }}}} ]; then echo "the files arrived damaged" >&2; exit 5; fi
{{% if mode %}}chmod {{{{ mode }}}} "$t"
{{% else %}}chmod 755 "$t"
{{% endif %}}{{% if owner %}}chown -R {{{{ owner }}}} "$t"
{{% endif %}}{{% if backup %}}o="$p.msp-before"; rm -rf -- "$o"
{{% endif %}}if [ -e "$p" ]; then mv -- "$p" "$o"; fi
mv -- "$t" "$p" || {{ if [ -e "$o" ]; then mv -- "$o" "$p"; fi; exit 5; }}
{{% if not backup %}}rm -rf -- "$o"
{{% endif %}})
""",
    "undo": """p={{ path }}; rm -rf -- "$p"
if [ -e "$p.msp-before" ]; then mv -- "$p.msp-before" "$p"; fi
""",
}
#: What the host says of it stands on the error stream; a file that changes meanwhile is no evidence.
FETCH = """p={{ path }}
[ -f "$p" ] || { echo "there is no file $p" >&2; exit 3; }
a=$(sha256sum < "$p" | cut -d' ' -f1)
cat -- "$p" || exit 5
if [ "$(sha256sum < "$p" | cut -d' ' -f1)" != "$a" ]; then echo "$p changed while it was read" >&2; exit 5; fi
echo "sha256 $a" >&2
"""
