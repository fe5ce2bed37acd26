"""msp serve and msp worker: the two processes of an installation, or both from one command."""

import importlib
import multiprocessing
import threading
from dataclasses import replace
from typing import Any

import click

from msp import console

RESTART_AFTER = 5.0  # seconds before a worker that died is started again


@click.command(epilog="Example: msp serve --with-worker --port 8440")
@click.option("--with-worker", is_flag=True, help="Drive runs, restore tests and clocks too, in a second process.")
@click.option("--address", help="Address to listen on (setting: address).")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 picks a free one (setting: port).")
def serve(with_worker: bool, address: str | None, port: int | None) -> None:
    """Serve the web pages until SIGTERM or Ctrl-C; requests in hand are finished."""
    settings = console.use_database()
    if address is not None:
        settings = replace(settings, address=address)
    if port is not None:
        settings = replace(settings, port=port)
    stopping = threading.Event()
    beside: list[threading.Thread] = []

    def ready(url: str) -> None:
        click.echo(f"Serving on {url}")
        if with_worker:
            beside.append(threading.Thread(target=_keep_worker, args=(settings, stopping), name="worker"))
            beside[0].start()

    try:
        importlib.import_module("msp_web.server").run(settings, ready)
    finally:
        stopping.set()
        for thread in beside:
            thread.join()


@click.command(epilog="Example: msp worker")
@click.pass_context
def worker(ctx: click.Context) -> None:
    """Drive runs, restore tests and clocks until SIGTERM; exit 3 if another worker took this slot."""
    settings = console.use_database()
    ctx.exit(importlib.import_module("msp.worker").run(settings))


def _work(settings: Any) -> None:
    from msp import db

    db.use(settings.database_url)
    raise SystemExit(importlib.import_module("msp.worker").run(settings))


def _keep_worker(settings: Any, stopping: threading.Event) -> None:
    """Keep one worker process alive until `stopping`; then ask it to drain, and wait as long as it may."""
    fresh = multiprocessing.get_context("spawn")
    while not stopping.is_set():
        process = fresh.Process(target=_work, args=(settings,), name="msp worker")
        process.start()
        while process.is_alive() and not stopping.wait(0.2):
            pass
        if not stopping.is_set():
            click.echo(f"msp: the worker ended with status {process.exitcode}; starting it again.", err=True)
            stopping.wait(RESTART_AFTER)
            continue
        process.terminate()
        process.join(settings.drain_seconds + 10)
        if process.is_alive():
            process.kill()
            process.join()
