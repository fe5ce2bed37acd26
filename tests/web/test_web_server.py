"""The web process itself: streams without gaps, a gate before them, an end without waiting."""

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlencode

import pytest
import seed

from msp import db, events
from msp.clock import utc_now
from msp.engine.models import WorkerLease
from msp.errors import Conflict, Misconfigured
from msp_web.server import listen_on

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
SERVE = """
import sys
from pathlib import Path
from msp.settings import Settings
from msp_web.server import run
run(Settings(data=Path(sys.argv[1]), port=0, log_level="WARNING"), lambda url: print(url, flush=True))
print("ended", flush=True)
"""


@dataclass
class Web:
    process: "subprocess.Popen[str]"
    port: int
    url: str

    def ask(self, path: str, *, cookie: str = "", body: str | None = None, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        sent = {"Cookie": cookie, **headers}
        if body is not None:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        connection.request("GET" if body is None else "POST", path, body, sent)
        return connection.getresponse()

    def log_in(self, email: str) -> str:
        """Return the cookie of a person who has logged in."""
        page = self.ask("/log-in")
        token = re.search(r'csrf-token" content="([^"]+)"', page.read().decode())
        assert token is not None
        cookie = str(page.getheader("Set-Cookie")).split(";")[0]
        form = urlencode({"csrf_token": token[1], "email": email, "password": seed.PASSWORD})
        answer = self.ask("/log-in", cookie=cookie, body=form)
        assert answer.status == 302
        return str(answer.getheader("Set-Cookie")).split(";")[0]


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    settings = seed.prepare(tmp_path_factory.mktemp("served"))
    with db.begin() as session:
        seed.fill(session)
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'web'}", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", SERVE, str(settings.data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        try:
            yield Web(process, int(url.rstrip("/").rpartition(":")[2]), url)
        finally:
            process.kill()
    db.use(settings.database_url)


def tell(topic: str, client_id: int, number: int) -> int:
    with db.begin() as session:
        event = events.record(session, topic, "ticket.changed", client_id=client_id, data={"number": number})
        session.flush()
        return event.id


def next_message(stream: http.client.HTTPResponse) -> tuple[int, dict[str, object]]:
    ident = 0
    while line := stream.readline().decode():
        if line.startswith("id:"):
            ident = int(line[3:])
        elif line.startswith("data:"):
            return ident, json.loads(line[5:])
    raise AssertionError("the stream ended")


def test_a_stream_tells_everything_once_also_what_came_while_the_line_was_down(web: Web) -> None:
    cookie = web.log_in("tech@provider.example")
    first = tell("ticket:1", 1, 1)
    stream = web.ask(f"/live/ticket:1?after={first - 1}", cookie=cookie)
    assert stream.status == 200
    assert stream.getheader("Content-Type", "").startswith("text/event-stream")
    assert next_message(stream)[0] == first
    second = tell("ticket:1", 1, 2)
    tell("ticket:2", 2, 99)  # another topic
    third = tell("ticket:1", 1, 3)
    assert [next_message(stream)[0] for _ in range(2)] == [second, third]
    stream.close()
    fourth = tell("ticket:1", 1, 4)
    again = web.ask("/live/ticket:1", cookie=cookie, **{"Last-Event-ID": str(third)})
    ident, told = next_message(again)
    assert (ident, told["data"]) == (fourth, {"number": 4})


def test_a_clients_person_hears_that_something_changed_but_not_what(web: Web) -> None:
    cookie = web.log_in("boss@alfa.example")
    stream = web.ask("/live/ticket:1", cookie=cookie)
    assert stream.status == 200
    time.sleep(0.2)
    tell("ticket:1", 1, 5)
    assert next_message(stream)[1]["data"] == {}


@pytest.mark.parametrize("topic", ["ticket:2", "run:2", "queue", "board", "nonsense", "ticket:9999999"])
def test_a_stream_of_what_is_not_ones_own_does_not_open(web: Web, topic: str) -> None:
    assert web.ask(f"/live/{topic}").status == 401
    assert web.ask(f"/live/{topic}", cookie=web.log_in("user@alfa.example")).status == 404


def test_readiness_needs_a_worker_and_health_does_not(web: Web) -> None:
    assert web.ask("/healthz").status == 200
    assert web.ask("/readyz").status == 503
    with db.begin() as session:
        now = utc_now()
        session.add(WorkerLease(name="w", pid=1, hostname="h", started_at=now, heartbeat_at=now, version="1"))
    assert web.ask("/readyz").status == 200
    with db.begin() as session:
        session.get_one(WorkerLease, "w").heartbeat_at = utc_now() - timedelta(hours=1)
    assert web.ask("/readyz").status == 503


def test_figures_are_for_this_machine_and_not_for_who_comes_through_a_proxy(web: Web) -> None:
    assert b"msp_tickets_open" in web.ask("/metrics").read()
    assert web.ask("/metrics", **{"X-Forwarded-For": "198.51.100.1"}).status == 404


def test_a_port_that_is_taken_is_a_sentence_with_advice() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Conflict, match=f"Port {port}") as refused:
            listen_on("127.0.0.1", port)
        assert "--port" in refused.value.advice
    with pytest.raises(Misconfigured, match=r"192\.0\.2\.1 is no address"):
        listen_on("192.0.2.1", 0)


def test_a_stop_ends_open_streams_and_leaves_with_success(web: Web) -> None:  # last: it ends the server
    stream = web.ask("/live/ticket:1", cookie=web.log_in("tech@provider.example"))
    started = time.monotonic()
    web.process.send_signal(signal.SIGTERM)
    assert web.process.wait(10) == 0
    assert time.monotonic() - started < 5
    while stream.readline():
        pass
    assert web.process.stdout is not None
    assert "ended" in web.process.stdout.read()


def test_one_command_serves_drives_work_and_stops_both(tmp_path: Path) -> None:
    msp = Path(sys.executable).with_name("msp")
    environment = {"MSP_DATA": str(tmp_path), "MSP_TEST_PASSWORD": seed.PASSWORD, "PATH": "/usr/bin:/bin"}
    environment["PYTHONUNBUFFERED"] = "1"
    subprocess.run([msp, "init", "--admin", "a@b.example"], env=environment, check=True, stdout=subprocess.DEVNULL)
    command = [msp, "serve", "--with-worker", "--port", "0"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().strip().rstrip("/").rpartition(":")[2])
        web = Web(process, port, "")
        try:
            for _ in range(120):
                if web.ask("/readyz").status == 200:
                    break
                time.sleep(0.25)
            assert web.ask("/readyz").status == 200, "no worker took its lease"
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()
    db.use(f"sqlite:///{tmp_path}/msp.db")
    with db.read() as session:
        assert session.get(WorkerLease, "worker-01") is None, "the worker did not give its slot up"


def test_a_second_server_says_in_two_lines_what_to_do(tmp_path: Path) -> None:
    msp = Path(sys.executable).with_name("msp")
    environment = {"MSP_DATA": str(tmp_path), "PATH": "/usr/bin:/bin"}
    subprocess.run([msp, "init"], env=environment, check=True, stdout=subprocess.DEVNULL)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run([msp, "serve", "--port", port], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[0] == f"msp: Port {port} on 127.0.0.1 is taken by another program."
    assert lines[1].strip().startswith("Stop that one")
    assert len(lines) == 2
