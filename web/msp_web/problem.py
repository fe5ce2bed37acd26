"""Every error as a page or, for programs, as a problem document (RFC 9457). Nothing of the inside leaks."""

import logging

from flask import Flask, Response, jsonify, render_template, request
from flask_babel import gettext, lazy_gettext
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import DataError, OperationalError
from werkzeug.exceptions import HTTPException
from werkzeug.sansio.response import Response as Answer

from msp.db import explain
from msp.errors import MspError
from msp_web import language

logger = logging.getLogger(__name__)

#: HTTP status -> (heading, what to do), for errors that carry no sentence of ours.
SENTENCES = {
    400: (lazy_gettext("The request is not complete."), lazy_gettext("Go back, check the form and send it again.")),
    401: (lazy_gettext("You are not logged in."), lazy_gettext("Log in and try again.")),
    403: (lazy_gettext("You may not do this."), lazy_gettext("Ask your administrator for the right role.")),
    404: (lazy_gettext("There is no such page."), lazy_gettext("Use the menu or the search.")),
    405: (lazy_gettext("This page does not work that way."), lazy_gettext("Go back and use its buttons.")),
    409: (lazy_gettext("Somebody else was first."), lazy_gettext("Look again and decide anew.")),
    413: (lazy_gettext("That is too large."), lazy_gettext("Send less than 16 MB at once.")),
    415: (lazy_gettext("That kind of content is not understood."), lazy_gettext("Send the form or JSON.")),
    422: (lazy_gettext("That cannot mean what it says."), lazy_gettext("Correct it and send it again.")),
    429: (lazy_gettext("That was too often."), lazy_gettext("Wait a minute and try again.")),
    500: (lazy_gettext("Something went wrong on our side."), lazy_gettext("Try again; if it stays, tell us when.")),
    502: (lazy_gettext("The other side does not answer."), lazy_gettext("Try again later.")),
}


def wants_json() -> bool:
    """Return whether the caller is a program."""
    if request.path.startswith("/api/"):
        return True
    return request.accept_mimetypes.best_match(["text/html", "application/json"]) == "application/json"


def answer(status: int, code: str, what: str, advice: str, retry: bool = False) -> Response:
    """Return one problem in the form that the caller reads: people in their language, programs in English.

    A request with the page's token comes from a script of ours, which shows the answer to a person.
    """
    as_json = wants_json()
    if not as_json or "X-CSRFToken" in request.headers:
        what, advice = language.said(what), language.said(advice)
    if as_json:
        response = jsonify(
            type=f"urn:msp-toolkit:problem:{code}",
            title=what,
            status=status,
            detail=advice,
            code=code,
            retry=retry,
            instance=request.path,
        )
        response.mimetype = "application/problem+json"
    else:
        fragment = bool(request.headers.get("HX-Request"))
        page = render_template(
            "problem_part.html" if fragment else "problem.html",
            status=status,
            what=what,
            advice=advice,
            retry=retry,
        )
        response = Response(page, mimetype="text/html")
    response.status_code = status
    return response


def install(app: Flask) -> None:
    """Teach the application to explain every error."""

    @app.errorhandler(MspError)
    def ours(error: MspError) -> Response:
        return answer(error.status, error.code, error.what, error.advice, error.retry)

    @app.errorhandler(CSRFError)
    def forged(error: CSRFError) -> Response:
        what = gettext("The page was open for too long, or the form came from elsewhere.")
        return answer(400, "csrf", what, gettext("Load the page again and send the form once more."))

    @app.errorhandler(HTTPException)
    def theirs(error: HTTPException) -> Response | Answer:
        if error.code is None or error.code < 400:  # a redirect that a library raised
            return error.get_response()
        what, advice = SENTENCES.get(error.code, SENTENCES[500 if error.code >= 500 else 400])
        response = answer(error.code, f"http_{error.code}", str(what), str(advice), retry=error.code == 429)
        for name, value in error.get_headers():
            if name in ("Retry-After", "Allow"):
                response.headers[name] = value
        return response

    @app.errorhandler(OperationalError)
    def database(error: OperationalError) -> Response:
        logger.error("database: %s", explain(error).what)
        what, advice = SENTENCES[500]
        return answer(503, "database", str(what), str(advice), retry=True)

    @app.errorhandler(DataError)
    def no_value(error: DataError) -> Response:
        """A form held what PostgreSQL does not store, such as a NUL in a text; its own words would show the value."""
        logger.warning("%s %s held a value that the database refused", request.method, request.path)
        what = gettext("What was sent holds a character or a number that cannot be stored.")
        return answer(422, "unstorable", what, gettext("Take it out, and send it again."))

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        logger.exception("%s %s failed", request.method, request.path)
        if app.config.get("PROPAGATE_EXCEPTIONS"):
            raise error
        what, advice = SENTENCES[500]
        return answer(500, "internal", str(what), str(advice), retry=True)
