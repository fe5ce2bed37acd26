"""msp console: the sockets of consoles in a process of their own, apart from the pages."""

import importlib
from dataclasses import replace

import click

from msp import console


@click.command(epilog="Example: msp console --port 8441")
@click.option("--address", help="Address to listen on (setting: address).")
@click.option("--port", type=click.IntRange(0, 65535), default=8441, show_default=True, help="0 picks a free one.")
def serve_consoles(address: str | None, port: int) -> None:
    """Serve the sockets of terminals and screens until SIGTERM or Ctrl-C; open ones end with their recordings closed.

    The web process serves them too. This one is for pages that must restart without ending anybody's console: set
    `console_url` to where browsers reach it, under the host name of the pages.
    """
    settings = console.use_database()
    chosen = replace(settings, port=port, address=settings.address if address is None else address)
    server = importlib.import_module("msp_web.server")
    server.run(chosen, lambda url: click.echo(f"Serving consoles on {url}"), consoles_only=True)
