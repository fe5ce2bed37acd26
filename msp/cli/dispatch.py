"""`msp dispatch`: plan visits, judge a plan, offer appointment windows, say why."""

import time
from pathlib import Path
from typing import Any

import click

from msp.console import print_json, print_table

BEGAN = time.monotonic()  # the time allowed counts from the start of the command
FILE = click.Path(dir_okay=False, path_type=Path)


@click.group()
def dispatch() -> None:
    """Visits: plan them, judge a plan, offer appointment windows, say why.

    \b
    Example:
      msp dispatch solve problem.json plan.json --seconds 20
    """


@dispatch.command()
@click.argument("problem", type=FILE)
@click.argument("plan", type=FILE)
@click.option(
    "--seconds", type=click.FloatRange(min=0, min_open=True), help="Time allowed; 10 unless --iterations is given."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Start of the random numbers.")
@click.option(
    "--iterations", type=click.IntRange(min=0), help="Steps of the search; the same seed then gives the same plan."
)
@click.option(
    "--accelerator",
    type=click.Choice(["auto", "pyvrp", "none"]),
    default="auto",
    help="PyVRP for a better start: auto where it is installed, seconds are given and the problem suits it.",
)
def solve(
    problem: Path, plan: Path, seconds: float | None, seed: int, iterations: int | None, accelerator: str
) -> None:
    """Plan the visits of PROBLEM and write PLAN. A plan that `check` rejects is never written.

    \b
    Example:
      msp dispatch solve problem.json plan.json --seconds 20 --seed 7
    """
    from msp.dispatch.solve import solve as plan_visits

    found = plan_visits(
        read(problem), seconds=seconds, seed=seed, iterations=iterations, began=BEGAN, accelerator=accelerator
    )
    write(plan, found.plan)
    _print_score(found.verdict)
    click.echo(f"{found.iterations} iterations in {found.seconds:.1f} s; wrote {plan}.")


@dispatch.command()
@click.argument("problem", type=FILE)
@click.argument("plan", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def check(ctx: click.Context, problem: Path, plan: Path, as_json: bool) -> None:
    """Judge PLAN against PROBLEM: print every violation and the score. Exit status 1 when infeasible.

    \b
    Example:
      msp dispatch check problem.json plan.json --json
    """
    from msp.dispatch import problem as problems
    from msp.dispatch.checker import check as judge

    raw = read(problem)
    problems.from_json(raw)
    verdict = judge(raw, read(plan))
    if as_json:
        print_json(
            {
                "feasible": verdict.feasible,
                "violations": verdict.violations,
                "score": {"tier1": verdict.tier1, "tier2": verdict.tier2, "tier3": verdict.tier3},
                "travel": verdict.travel,
                "overtime": verdict.overtime,
                "late": verdict.late,
                "dropped": verdict.dropped,
                "moved": verdict.moved,
                "changed": verdict.changed,
            }
        )
    else:
        if verdict.feasible:
            click.echo("feasible")
        else:
            count = len(verdict.violations)
            click.echo(f"infeasible: {count} violation{'s' if count > 1 else ''}")
            for sentence in verdict.violations:
                click.echo(f"- {sentence}")
        _print_score(verdict)
    ctx.exit(0 if verdict.feasible else 1)


@dispatch.command()
@click.argument("problem", type=FILE)
@click.argument("plan", type=FILE)
@click.argument("visit", type=FILE)
@click.argument("slots", type=FILE)
@click.option("--count", type=click.IntRange(min=1), default=3, show_default=True, help="Windows to offer.")
def slots(problem: Path, plan: Path, visit: Path, slots: Path, count: int) -> None:
    """Offer the best appointment windows for the new VISIT beside PLAN, and write them to SLOTS.

    No promised visit moves, and no other visit changes its technician.

    \b
    Example:
      msp dispatch slots problem.json plan.json visit.json slots.json
    """
    from msp.dispatch.slots import offer

    found = offer(read(problem), read(plan), read(visit), count=count)
    write(slots, found)
    rows = [(*slot["window"], slot["delta"]["tier1"], slot["delta"]["tier2"]) for slot in found["slots"]]
    print_table(("from", "until", "tier 1", "tier 2"), rows)
    if not rows:
        click.echo("No window was found without moving a promise.")


@dispatch.command()
@click.argument("problem", type=FILE)
@click.argument("plan", type=FILE)
@click.argument("visit")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def explain(problem: Path, plan: Path, visit: str, as_json: bool) -> None:
    """Say why VISIT (its id) stands where it does in PLAN, why not earlier, and why not with others.

    \b
    Example:
      msp dispatch explain problem.json plan.json V12
    """
    from msp.dispatch.explain import explain as reasons

    found = reasons(read(problem), read(plan), visit)
    if as_json:
        print_json(found)
        return
    for sentence in found["sentences"]:
        click.echo(sentence)
    if found["others"]:
        print_table(("technician", "why not"), [(other["tech"], other["reason"]) for other in found["others"]])


@dispatch.command(epilog="Example: msp dispatch roads --fetch")
@click.option("--fetch", is_flag=True, help="Ask the map service for what is not known, now.")
@click.option("--learn", is_flag=True, help="Find anew from finished visits how long drives really take.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def roads(fetch: bool, learn: bool, as_json: bool) -> None:
    """Say what is known of travel times: drives kept, drives missing, and how real drives compare."""
    from msp import console, db
    from msp.clock import utc_now
    from msp.dispatch.roads import book
    from msp.flows import roads as flow

    console.use_database()
    settings = console.settings()
    if fetch:
        flow.fetch(settings)
    if learn:
        with db.begin() as session:
            flow.learn(session, utc_now(), settings)
    with db.read() as session:
        places = book.places(session)
        missing = sum(len(targets) for targets in book.missing(session, places, utc_now()).values())
        factors = book.factors(session)
    found = {
        "service": settings.travel_service or None,
        "places": len(places),
        "drives_missing": missing,
        "drives_known": len(places) * max(0, len(places) - 1) - missing,
        "factor": factors.overall,
        "factor_by_hour_of_week": factors.hours,
        "learnt_from": factors.drives,
    }
    if as_json:
        print_json(found)
        return
    print_table(("what", "figure"), [(name.replace("_", " "), str(value)) for name, value in found.items()])


def read(path: Path) -> Any:
    """Return the JSON value in a file; raises Misconfigured with the place that is not JSON."""
    import json

    from msp.errors import Misconfigured

    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise Misconfigured(f"{path} cannot be read: {error.strerror}.", advice="Name a file that exists.") from error
    except (ValueError, RecursionError) as error:
        raise Misconfigured(f"{path} is not JSON: {error}.", advice="Correct the place named.") from error


def write(path: Path, value: Any) -> None:
    """Write a JSON value to a file, whole or not at all."""
    import json
    import os

    from msp.errors import Misconfigured

    beside = path.with_name(f".{path.name}.part")
    try:
        beside.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", "utf-8")
        os.replace(beside, path)  # noqa: PTH105  one call, atomic
    except OSError as error:
        raise Misconfigured(f"{path} cannot be written: {error.strerror}.", advice="Name another file.") from error


def _print_score(verdict: Any) -> None:
    click.echo(
        f"tier 1: {verdict.tier1:g} ({verdict.dropped} dropped, {verdict.late} late, {verdict.moved} promises moved)\n"
        f"tier 2: {verdict.tier2:g} ({verdict.travel} minutes of travel, {verdict.overtime} of overtime, "
        f"{verdict.changed} changes of technician)\n"
        f"tier 3: {verdict.tier3:g}"
    )
