#!/bin/bash
# Everything that `make test` runs. Installs the Debian packages it needs when it is root; otherwise it names the
# missing ones and the suites that need them are skipped, each with its reason.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:/usr/sbin:$PATH"
section() { printf '\n== %s\n' "$*"; }

section "Debian packages"
missing=()
while read -r package; do
	[[ -z "$package" || "$package" == \#* ]] && continue
	dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done < requirements/debian.txt
if ((${#missing[@]})); then
	if [ "$(id -u)" = 0 ]; then
		apt-get update -qq
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
	else
		echo "MISSING: ${missing[*]}" >&2
		echo "Their suites are skipped. To run them: sudo apt-get install ${missing[*]}" >&2
	fi
fi
if command -v krb5-config >/dev/null && command -v cc >/dev/null; then # compiled, so not part of the environment
	python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/kerberos.txt
fi
[ "$(id -u)" = 0 ] && export MSP_TEST_ALL_SERVERS=1 # a missing program is a failure now, not a skip

section "Style, types, import contracts"
ruff check .
ruff format --check .
mypy
lint-imports

# Run the suite; what fails is tried once more, alone and without company on the machine. A test that passes only then
# depends on timing: it is named, and needs mending.
suite() { # jobs, then words for pytest
	local jobs=$1 && shift
	pytest -q -n "${MSP_TEST_JOBS:-$jobs}" --dist loadgroup --durations=15 --durations-min=5 "$@" && return
	printf '\n== FAILED ABOVE: once more, alone\n'
	pytest -q -n 0 --last-failed --last-failed-no-failures none "$@"
}

section "Tests on SQLite and PostgreSQL"
rm -f .coverage .coverage.*
if [ -d /usr/lib/postgresql ]; then
	coproc POSTGRES { exec python tests/servers/postgres.py; }
	postgres=$POSTGRES_PID
	trap 'kill "$postgres" 2>/dev/null; wait "$postgres" 2>/dev/null || true' EXIT
	read -r -t 60 -u "${POSTGRES[0]}" MSP_TEST_POSTGRES
	export MSP_TEST_POSTGRES
else
	echo "NO POSTGRESQL HERE: the suite runs on SQLite alone." >&2
fi
suite 2 -m "not slow" --cov --cov-append --cov-report=
section "Long tests: oracles, kills, whole commands"
# They wait for servers, leases and deadlines half of the time. Oracles count for minutes, three times that if traced.
suite 3 -m slow tests/remote tests/backup tests/web tests/playbooks tests/flows --cov --cov-append --cov-report=
suite 2 -m slow --ignore=tests/remote --ignore=tests/backup --ignore=tests/web --ignore=tests/playbooks --ignore=tests/flows
coverage combine -q --append 2>/dev/null || true
coverage report --skip-covered --fail-under=85 | tail -40

section "Migrations leave nothing to do"
for url in "sqlite:///$(mktemp -d)/msp.db" ${MSP_TEST_POSTGRES:+"$MSP_TEST_POSTGRES"}; do
	python tools/check_migrations.py "$url"
done

section "The wheel starts in an empty environment"
tools/check_wheel.sh

section "The closed loop"
msp demo --check
