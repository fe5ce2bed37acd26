"""Take the pictures of docs/img with a real browser: every page of the table, two widths, two languages.

    python tools/screenshots.py [--only NAME ...] [--out docs/img] [--dark]

The demo is played first, in a folder of its own, so that the pages show what really happened.
"""

import argparse
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from msp.demo.stage import Stage
from msp.demo.story import STORY

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = os.environ.get("MSP_TEST_CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
ARGUMENTS += ["--disable-component-update", "--disable-sync"]
WIDTHS = {1440: 900, 390: 844}
LANGUAGES = ("en", "ru")
PEOPLE = {
    "admin": "admin@provider.example",
    "tech": "anna@provider.example",
    "dispatcher": "dora@provider.example",
    "manager": "max@provider.example",
    "client": "olga@sever.example",
}

#: picture -> (who looks, address). Add a page here when it is worth a picture.
PAGES: dict[str, tuple[str | None, str]] = {
    "log-in": (None, "/log-in"),
    "queue": ("tech", "/tickets"),
    "ticket": ("tech", "/tickets/3"),
    "ticket-new": ("tech", "/tickets/new"),
    "playbooks": ("tech", "/runs/new?ticket=3"),
    "playbook": ("tech", "/runs/new/free-disk-space?ticket=1&asset=1"),
    "runs": ("tech", "/runs/"),
    "run": ("tech", "/runs/2"),
    "run-log": ("tech", "/runs/2/log"),
    "run-approved": ("tech", "/runs/4"),
    "bulk": ("tech", "/runs/bulk/"),
    "consoles": ("tech", "/consoles/"),
    "credentials": ("admin", "/credentials/"),
    "authorities": ("admin", "/credentials/authorities/"),
    "proofs": ("tech", "/backups/"),
    "proof-plan": ("tech", "/backups/2"),
    "proof-test": ("tech", "/backups/tests/2"),
    "proof-wizard": ("admin", "/backups/drafts/new"),
    "dispatch": ("dispatcher", "/dispatch/"),
    "dispatch-visit": ("dispatcher", "/dispatch/1"),
    "dispatch-slots": ("dispatcher", "/dispatch/1/slots"),
    "dispatch-map": ("dispatcher", "/dispatch/map"),
    "technicians": ("dispatcher", "/dispatch/technicians"),
    "parts": ("dispatcher", "/dispatch/parts"),
    "calendars": ("dispatcher", "/dispatch/calendars"),
    "field": ("tech", "/field/"),
    "assets": ("admin", "/assets/"),
    "asset": ("admin", "/assets/1"),
    "asset-way": ("admin", "/assets/1/way"),
    "bastions": ("admin", "/assets/bastions"),
    "contracts": ("manager", "/contracts/"),
    "contract": ("manager", "/contracts/1"),
    "contract-edit": ("manager", "/contracts/1/edit"),
    "contract-clocks": ("manager", "/contracts/1/clocks"),
    "roster": ("dispatcher", "/roster"),
    "billing": ("manager", "/billing/"),
    "reports": ("manager", "/reports/"),
    "quote": ("manager", "/billing/quote"),
    "calculator": (None, "/calculator"),
    "evidence": ("admin", "/evidence/"),
    "evidence-verified": ("admin", "/evidence/1/verify"),
    "doctor": ("admin", "/admin/"),
    "people": ("admin", "/admin/users"),
    "settings": ("admin", "/admin/settings"),
    "account": ("tech", "/account"),
    "portal": ("client", "/portal/"),
    "portal-tickets": ("client", "/portal/tickets"),
    "portal-ticket": ("client", "/portal/tickets/3"),
    "portal-backups": ("client", "/portal/backups"),
    "portal-plan": ("client", "/portal/backups/2"),
    "portal-acts": ("client", "/portal/acts"),
    "portal-credentials": ("client", "/portal/credentials/"),
    "portal-contract": ("client", "/portal/contract"),
    "portal-visits": ("client", "/portal/visits"),
}


def small(png: bytes) -> bytes:
    """Return a picture with 128 colours: a quarter of the size, and nobody sees it."""
    out = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


def log_in(page: Page, base: str, person: str, language: str, password: str) -> None:
    """Log in and choose the language."""
    page.goto(f"{base}/log-in")
    page.fill("#email", PEOPLE[person])
    page.fill("#password", password)
    page.click("form[action*='log-in'] button")
    page.wait_for_url(lambda url: "/log-in" not in url)
    page.locator(f"button[name=language][value={language}]").first.click()
    page.wait_for_load_state("networkidle")


def look(
    browser: Browser, base: str, width: int, language: str, dark: bool, password: str
) -> Iterator[tuple[str | None, BrowserContext]]:
    """Yield a browser window for nobody and for each person."""
    for person in (None, *PEOPLE):
        context = browser.new_context(
            viewport={"width": width, "height": WIDTHS[width]}, color_scheme="dark" if dark else "light"
        )
        page = context.new_page()
        if person is None:
            page.goto(f"{base}/log-in")
            page.locator(f"button[name=language][value={language}]").first.click()
            page.wait_for_load_state("networkidle")
        else:
            log_in(page, base, person, language, password)
        yield person, context
        context.close()


def main() -> int:
    """Take the pictures; return 1 if a page failed or its console complained."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(PAGES))
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "img")
    parser.add_argument("--widths", nargs="*", type=int, default=list(WIDTHS))
    parser.add_argument("--languages", nargs="*", default=list(LANGUAGES))
    parser.add_argument("--dark", action="store_true")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    complaints: list[str] = []
    with tempfile.TemporaryDirectory() as scratch, Stage(Path(scratch), {"rate_limit": "1000 per minute"}) as stage:
        for step in STORY:
            for sentence in step.play(stage):
                print(sentence, file=sys.stderr)
        base = stage.address
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            for width in given.widths:
                for language in given.languages:
                    for person, context in look(browser, base, width, language, given.dark, stage.password):
                        for name, (who, path) in PAGES.items():
                            if who == person and name in given.only:
                                page = context.new_page()
                                page.on("console", lambda m, name=name: complaints.append(f"{name}: {m.text}"))
                                answer = page.goto(base + path)
                                page.wait_for_load_state("load")
                                if answer is None or answer.status >= 400:
                                    complaints.append(f"{name}: {answer.status if answer else 'no answer'}")
                                wide = page.evaluate("document.documentElement.scrollWidth")
                                if wide > width:
                                    complaints.append(f"{name}: {wide} px wide at {width} ({language})")
                                suffix = "-dark" if given.dark else ""
                                file = given.out / f"{name}-{width}-{language}{suffix}.png"
                                file.write_bytes(small(page.screenshot()))
                                page.close()
            browser.close()
    for line in complaints:
        print(line)
    total = sum(file.stat().st_size for file in given.out.glob("*.png"))
    print(f"{len(list(given.out.glob('*.png')))} pictures, {total / 1024:.0f} KiB", file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
