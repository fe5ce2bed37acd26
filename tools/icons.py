"""Write the pictures of the installable page from web/msp_web/static/icon.svg: 192 and 512 pixels, and one to be cut.

    python tools/icons.py

A phone cuts a "maskable" icon to a shape of its own: what matters lies within the middle four fifths (W3C, Web App
Manifest, 1.12 safe zone), so there the drawing is smaller and its ground goes to the edge. Chromium draws them.
"""

import re
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

STATIC = Path(__file__).resolve().parent.parent / "web" / "msp_web" / "static"
CHROMIUM = "/usr/bin/chromium"
GROUND = "#0b5cad"  # that of the drawing
PICTURES = (("icon-192.png", 192, 1.0), ("icon-512.png", 512, 1.0), ("icon-maskable-512.png", 512, 0.72))


def page(svg: str, size: int, share: float) -> str:
    """Return a page that shows the drawing at `share` of `size`, on the ground where it is to be cut."""
    ground = GROUND if share < 1 else "transparent"
    drawing = re.sub(r"<svg ", f'<svg width="{size * share}" height="{size * share}" ', svg, count=1)
    return (
        f'<body style="margin:0;width:{size}px;height:{size}px;display:grid;place-items:center;background:{ground}">'
        f"{drawing}</body>"
    )


def main() -> int:
    """Draw all; return the exit status."""
    svg = (STATIC / "icon.svg").read_text("utf-8")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for name, size, share in PICTURES:
            tab = browser.new_page(viewport={"width": size, "height": size})
            tab.set_content(page(svg, size, share))
            tab.screenshot(path=str(STATIC / name), omit_background=True)
            print(f"{name}: {(STATIC / name).stat().st_size} bytes")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
