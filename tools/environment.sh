#!/bin/sh
# Make or refresh .venv in the checkout. Usage: tools/environment.sh base|dev
# base = what the product needs; dev = that plus every extra and the tools of `make test`.
set -eu
cd "$(dirname "$0")/.."
kind="$1"
stamp=".venv/.$kind-$(cat requirements/base.txt "requirements/$kind.txt" pyproject.toml | sha256sum | cut -c1-16)"
[ -e "$stamp" ] && exit 0
python="${PYTHON:-python3}"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
	echo "msp-toolkit needs Python 3.11 or newer; $python is $("$python" --version)." >&2
	echo "Install it, or name another one: make PYTHON=/path/to/python3.11" >&2
	exit 2
}
if [ ! -x .venv/bin/python ]; then
	echo "Creating .venv with $("$python" --version) ..."
	if "$python" -c 'import ensurepip' 2>/dev/null; then
		"$python" -m venv .venv
	else # Debian's python3 without python3-venv: pip comes from the wheel in the checkout
		"$python" -m venv --without-pip .venv
		wheel=$(ls tools/bootstrap/pip-*.whl)
		.venv/bin/python "$wheel/pip" install --quiet --disable-pip-version-check --no-index "$wheel"
	fi
fi
# An environment of the dev kind serves the base kind too: do not take anything away from it.
[ "$kind" = base ] && ls .venv/.dev-* >/dev/null 2>&1 && kind=dev
echo "Installing the locked packages ($kind) ..."
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r "requirements/$kind.txt"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
rm -f .venv/.base-* .venv/.dev-*
touch "$stamp" ".venv/.$kind-$(cat requirements/base.txt "requirements/$kind.txt" pyproject.toml | sha256sum | cut -c1-16)"
