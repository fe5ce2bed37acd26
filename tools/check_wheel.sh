#!/bin/sh
# Build the wheel, install it into an empty environment with the locked packages, and start it.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
.venv/bin/python -m hatchling build -t wheel -d "$work/dist" >/dev/null
.venv/bin/python -m venv --without-pip "$work/env"
.venv/bin/python -m pip --python "$work/env/bin/python" install --quiet --disable-pip-version-check --no-index tools/bootstrap/pip-*.whl
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/base.txt
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-index "$work"/dist/*.whl
cd "$work"
env/bin/msp --version
MSP_TEST_PASSWORD="wheel-check-only" MSP_DATA="$work/data" env/bin/msp init --admin admin@provider.example
MSP_DATA="$work/data" env/bin/msp playbook list >playbooks.txt
grep -q free-disk-space playbooks.txt
MSP_DATA="$work/data" env/bin/msp serve --port 0 >serve.log 2>&1 &
server=$!
for _ in $(seq 100); do
	address=$(grep -o 'http://[0-9.]*:[0-9]*' serve.log | head -1 || true)
	[ -n "$address" ] && "$work/env/bin/python" -c "import sys, urllib.request as u; sys.exit(u.urlopen('$address/healthz').status != 200)" 2>/dev/null && break
	sleep 0.2
done
"$work/env/bin/python" -c "import urllib.request as u; print('healthz', u.urlopen('$address/healthz').status, 'login', u.urlopen('$address/log-in').status)" || { cat serve.log; exit 1; }
kill "$server"
wait "$server" || true
