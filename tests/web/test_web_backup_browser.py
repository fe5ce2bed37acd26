"""Writing a backup plan in a real browser: live progress of the first restore, ticks, times, no word on the console."""

import sqlite3
import tarfile
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from test_web_browser import installed, page, pytestmark  # noqa: F401  fixtures and marks of browser tests

from msp import db
from msp.assets.models import ConfigurationItem
from msp.backup.models import BackupDraft, BackupPlan
from msp.engine import runtime
from msp.flows import backup_plans
from msp.settings import Settings


@pytest.mark.slow
@pytest.mark.parametrize("width", [390])
def test_a_plan_is_written_by_hand_and_the_restore_is_seen_at_work(
    page: Any,  # noqa: F811
    installed: tuple[Path, int, str],  # noqa: F811
    tmp_path: Path,
    width: int,
) -> None:
    data, _, url = installed
    runtime.prepare(url)
    db.use(url)
    with sqlite3.connect(tmp_path / "shop.db") as database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
        database.executemany("INSERT INTO orders VALUES (?)", ((n,) for n in range(5000)))
    database.close()
    with tarfile.open(tmp_path / "shop.tar", "w") as file:
        file.add(tmp_path / "shop.db", "shop.db")
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{page.base}/backups/drafts/new")
    with db.read() as session:
        item = session.scalars(select(ConfigurationItem.id).where(ConfigurationItem.name == "alfa-srv-db1")).one()
    page.select_option("#of", f"item:{item}")
    page.click("main form .btn-primary")
    page.fill("#f-name", f"shop at {width}")
    page.click(".onward .btn-primary")
    page.select_option("#engine", "tar")
    page.fill("#f-file", str(tmp_path / "shop.tar"))
    page.click(".onward .btn-primary")
    page.click("text=Restore it now")
    page.wait_for_selector("text=waiting for the worker")
    with db.read() as session:
        draft = session.scalars(select(BackupDraft).order_by(BackupDraft.id.desc())).first()
    assert draft is not None
    backup_plans.perform_trial(Settings(data=data), draft.id, draft.trial_number)
    page.wait_for_selector("#trial .tone-green:has-text('1 file came back')")  # nobody loaded the page anew
    page.click("a.btn-primary:has-text('What must hold')")
    assert "5,000 rows in orders" in page.inner_text(".found") or "5000 rows in orders" in page.inner_text(".found")
    page.uncheck(".found input >> nth=0")
    page.click(".onward .btn-primary")
    assert not page.is_visible("[name=row-0-at]")  # after every backup has no time of day
    page.select_option("[name=row-2-often]", "cron")
    assert not page.is_visible("[name=row-2-at]")
    page.fill("[name=row-2-line]", "15 4 * * 0")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.click(".onward .btn-primary")
    assert "on Sundays at 04:15" in page.inner_text(".summary")
    page.click("text=Save the plan")
    page.wait_for_selector("text=The plan is saved and on its schedule.")
    with db.read() as session:
        plan = session.scalars(select(BackupPlan).where(BackupPlan.name == f"shop at {width}")).one()
        assert list(plan.case["expect"]) == ["sqlite"]
    page.click("text=Remove")
    page.click("text=Put it back")
    page.wait_for_selector("text=The plan is back, as it was.")
    assert page.complaints == []
