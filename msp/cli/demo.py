"""msp demo: the closed loop on this machine, with real hosts, in one folder."""

from pathlib import Path

import click

from msp import console


@click.command(epilog="Example: msp demo --folder demo-data")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("demo-data"), help="Where the demo lives.")
@click.option("--check", is_flag=True, help="Play it in a fresh temporary folder, check every step, and stop.")
def demo(folder: Path, check: bool) -> None:
    """Play the closed loop with real SSH hosts on loopback, then leave the web running.

    A second call continues where the first one was.
    """
    import tempfile

    if not check:
        _play(folder, stay=True)
        return
    with tempfile.TemporaryDirectory(prefix="msp-demo-") as fresh:
        _play(Path(fresh), stay=False)


def _play(folder: Path, *, stay: bool) -> None:
    import time

    from msp.demo import seed
    from msp.demo.stage import Stage
    from msp.demo.story import STORY

    began = time.monotonic()
    click.echo("Starting five hosts, a worker and the pages ...")
    with Stage(folder) as stage:
        done = list(stage.notes["done"])  # type: ignore[call-overload]
        for number, step in enumerate(STORY, 1):
            if number in done:
                click.echo(f"[{number}/{len(STORY)}] {step.title}: played before")
                continue
            started = time.monotonic()
            click.echo(f"[{number}/{len(STORY)}] {step.title}")
            for sentence in step.play(stage):
                click.echo(f"      proved: {sentence}")
            done.append(number)
            stage.notes["done"] = done
            stage.remember()
            click.echo(f"      ({time.monotonic() - started:.1f} s)")
        click.echo(f"The loop is closed: {len(STORY)} of {len(STORY)} steps in {time.monotonic() - began:.0f} s.")
        if not stay:
            return
        click.echo(f"\nOpen {stage.address} and log in; the password of each is {stage.password}")
        console.print_table(
            ("log-in", "is", "client"),
            [(email, ", ".join(roles), key or "") for email, (_, roles, key, _) in seed.PEOPLE.items()],
        )
        click.echo("Stop with Ctrl-C; make demo continues, make demo-reset starts afresh.")
        try:
            stage.serve_on()
        except KeyboardInterrupt:
            click.echo("\nStopping.")
