"""A browser for page tests, without a screen."""

import html
import re
from typing import Any

from flask.testing import FlaskClient


class Browser(FlaskClient):
    """A client that sends the token of the page it last saw, as a browser does."""

    token = ""

    def open(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        answer = super().open(*args, **kwargs)
        if answer.mimetype == "text/html" and (found := re.search(r'name="csrf-token" content="([^"]+)"', answer.text)):
            self.token = found[1]
        return answer

    def send(self, path: str, **form: object):  # type: ignore[no-untyped-def]
        """Post a form with the token."""
        if not self.token:
            self.get("/account", follow_redirects=True)
        return self.post(path, data={"csrf_token": self.token, **form})


def fields_on(page: str) -> dict[str, Any]:
    """Return what a browser would send of the form with the terms of a contract, unchanged."""
    form = page[page.index('name="draft"') - 40 :]
    found: dict[str, Any] = {}
    for tag in re.findall(r"<input [^>]+>", form):
        name = re.search(r'name="([^"]+)"', tag)
        if name is None or name[1] == "csrf_token":
            continue
        value = html.unescape((re.search(r'value="([^"]*)"', tag) or ["", ""])[1])
        if 'type="checkbox"' in tag:
            if " checked" in tag:
                found.setdefault(name[1], []).append(value)
        else:
            found[name[1]] = value
    for name, text in re.findall(r'<textarea [^>]*name="([^"]+)"[^>]*>(.*?)</textarea>', form, re.DOTALL):
        found[name] = html.unescape(text)
    for name, inner in re.findall(r'<select [^>]*name="([^"]+)"[^>]*>(.*?)</select>', form, re.DOTALL):
        chosen = re.search(r'value="([^"]*)" selected', inner) or re.search(r'value="([^"]*)"', inner)
        found[name] = html.unescape(chosen[1]) if chosen else ""
    return found
