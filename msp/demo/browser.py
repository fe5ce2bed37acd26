"""A client at the portal, over real HTTP: logs in, reads a page, presses a button. The standard library is enough."""

import re
import urllib.error
import urllib.parse
import urllib.request
from http.cookiejar import CookieJar

from msp.errors import StepFailed

_TOKEN = re.compile(r'name="csrf_token"[^>]*value="([^"]+)"|value="([^"]+)"[^>]*name="csrf_token"')


class Browser:
    """One person's session with the web."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))

    def get(self, path: str) -> str:
        """Return a page. Raises StepFailed naming the status for anything but success."""
        return self._open(urllib.request.Request(self.address + path))  # noqa: S310  our own loopback

    def post(self, path: str, page: str, **fields: str) -> str:
        """Send a form as it stands in `page` (its CSRF token) and return the page that follows."""
        found = _TOKEN.search(page)
        if found is None:
            raise StepFailed(f"The page before {path} holds no form.")
        body = urllib.parse.urlencode({"csrf_token": found[1] or found[2], **fields}).encode()
        headers = {"Referer": self.address + path}
        return self._open(urllib.request.Request(self.address + path, body, headers))  # noqa: S310

    def log_in(self, email: str, password: str) -> None:
        """Log in or raise StepFailed."""
        page = self.post("/log-in", self.get("/log-in"), email=email, password=password)
        if 'name="password"' in page:
            raise StepFailed(f"{email} could not log in.")

    def _open(self, request: urllib.request.Request) -> str:
        try:
            with self._opener.open(request, timeout=30) as answer:
                text: str = answer.read().decode()
                return text
        except urllib.error.HTTPError as error:
            raise StepFailed(f"{request.full_url} answered {error.code}.") from error
