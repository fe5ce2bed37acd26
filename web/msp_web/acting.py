"""One act on a thing that has a page: done in one transaction, or the page again with what was typed and why not."""

from collections.abc import Callable

from flask import flash, redirect
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from msp.db import Model
from msp.errors import Conflict, Misconfigured, MspError
from msp_web.access import scoped
from msp_web.unit import unit_of_work


def acted(
    model: type[Model],
    number: int,
    act: Callable[[Session], object],
    words: str,
    *,
    page: Callable[[int, MspError], str],
    done: str,
) -> ResponseReturnValue:
    """Do one thing to the row `number` of `model`, say `words` and go to the address `done`.

    What a person can correct is shown by `page`, which gets the number and the error; all else is the error page's.
    """
    try:
        with unit_of_work() as session:
            scoped(session, model, number)
            act(session)
    except (Misconfigured, Conflict) as error:
        return page(number, error), error.status
    flash(words, "success")
    return redirect(done, code=303)
