"""A browser for page tests, without a screen."""

import re

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
