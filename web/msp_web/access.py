"""Who asks, what a page demands, and the one gate through which every page reaches stored things.

Every view carries exactly one mark: `@requires(right)` for staff, `@portal(right)` for a client's people,
`@signed_in` for anybody who has logged in, `@by_token` for programs that bring a token, `@public` for everybody.
`create_app` refuses a view without a mark.

Every stored thing is fetched by `scoped` or listed through `visible`; a thing of a foreign client is not there.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from flask import Flask, g, make_response, redirect, request, url_for
from flask_login import current_user
from sqlalchemy import ColumnElement, Select, false, select, true
from sqlalchemy.orm import InstrumentedAttribute, Session
from werkzeug.exceptions import Unauthorized

from msp.assets.models import ConfigurationItem, HostKey, HostKeyChange
from msp.backup.models import BackupPlan, RestoreTest
from msp.contracts.models import Act, Client, Contract, ContractVersion, HourBlock
from msp.db import Model
from msp.desk.models import Ticket, TicketEvent
from msp.dispatch.models import Appointment, WorkOrder
from msp.errors import NotFound, Refused
from msp.evidence import Evidence
from msp.people import users
from msp.people.access import Actor, may
from msp.remote.models import Approval, Run, RunHost, RunPicture, StepResult
from msp_web.unit import read_only

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound=Model)
S = TypeVar("S", bound="Select[*tuple[Any, ...]]")

#: Views of libraries: all of them guard themselves. A new one must be added here by a person.
LIBRARY_ENDPOINTS = frozenset(
    {"static", "security.static", "security.login", "security.logout", "security.verify"}
    | {"security.two_factor_setup", "security.two_factor_setup_validate", "security.two_factor_token_validation"}
    | {"security.two_factor_rescue", "security.mf_recovery_codes", "security.mf_recovery", "security.tf_select"}
)

#: Models that belong to a client through another thing: model -> (its column, the thing).
BELONGS_TO: dict[type[Model], tuple[InstrumentedAttribute[Any], type[Model]]] = {
    Act: (Act.contract_id, Contract),
    ContractVersion: (ContractVersion.contract_id, Contract),
    HourBlock: (HourBlock.contract_id, Contract),
    HostKey: (HostKey.asset_id, ConfigurationItem),
    HostKeyChange: (HostKeyChange.asset_id, ConfigurationItem),
    TicketEvent: (TicketEvent.ticket_id, Ticket),
    RunHost: (RunHost.run_id, Run),
    RunPicture: (RunPicture.run_id, Run),
    StepResult: (StepResult.run_id, Run),
    Approval: (Approval.run_id, Run),
    Appointment: (Appointment.work_order_id, WorkOrder),
    RestoreTest: (RestoreTest.plan_id, BackupPlan),
}


@dataclass(frozen=True, slots=True)
class Mark:
    """What a view demands. `who`: public, token, signed in, staff or portal; `right`: one of people.access.RIGHTS."""

    who: str
    right: str | None = None


def public(view: Callable[P, R]) -> Callable[P, R]:
    """Mark a view that everybody may see: log-in, health."""
    view.access = Mark("public")  # type: ignore[attr-defined]
    return view


def by_token(view: Callable[P, R]) -> Callable[P, R]:
    """Mark a view for programs: it asks `bearer` for their token and knows itself what that opens.

    A cookie opens nothing there, so it needs no token against forged forms.
    """
    view.access = Mark("token")  # type: ignore[attr-defined]
    return view


def bearer() -> str:
    """Return the token that a program sent in the header Authorization, or raise Unauthorized."""
    said = request.authorization
    if said is None or said.type != "bearer" or not said.token:
        raise Unauthorized
    return said.token


def _guarded(view: Callable[P, R], mark: Mark) -> Callable[P, R]:
    @functools.wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        asking = current_actor()
        if asking is None:
            return to_log_in()  # type: ignore[no-any-return]
        if mark.right is not None and not may(asking, mark.right):
            raise Refused("Your role does not open this page.", advice="Ask your administrator for the right role.")
        return view(*args, **kwargs)

    guarded.access = mark  # type: ignore[attr-defined]
    return guarded


def requires(right: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Mark a staff view with the right it demands; who lacks it gets 403, who is not logged in goes to log-in."""
    return lambda view: _guarded(view, Mark("staff", right))


def portal(right: str = "portal.see") -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Mark a view for a client's own people."""
    return lambda view: _guarded(view, Mark("portal", right))


def signed_in(view: Callable[P, R]) -> Callable[P, R]:
    """Mark a view for anybody who has logged in: the own account, the language."""
    return _guarded(view, Mark("signed in"))


def to_log_in() -> Any:
    """Answer somebody who has not logged in: pages go to log-in and come back, programs get 401."""
    if request.path.startswith("/api/") or request.path.startswith("/live/"):
        raise Unauthorized
    back = request.full_path.rstrip("?") if request.method == "GET" else None
    address = url_for("security.login", next=back if back != "/" else None)
    if request.headers.get("HX-Request"):
        answer = make_response("", 401)
        answer.headers["HX-Redirect"] = address
        return answer
    return redirect(address)


def current_actor() -> Actor | None:
    """Return who asks, read once a request; None before log-in."""
    if "actor" not in g:
        g.actor = None
        if current_user.is_authenticated:
            with read_only() as session:
                g.actor = users.actor_of(session, current_user)
    found: Actor | None = g.actor
    return found


def actor() -> Actor:
    """Return who asks; for use in views that are not public."""
    found = current_actor()
    if found is None:
        raise Unauthorized
    return found


def gate(model: type[Model], asking: Actor) -> ColumnElement[bool]:
    """Return the condition under which a row of `model` may be known to `asking`. Raises KeyError for a model
    that has no way to a client: add it to BELONGS_TO."""
    if asking.client_id is None and asking.granted is None:
        return true()
    if model is Client:
        column: Any = Client.id
    elif model is Evidence:
        column = Evidence.chain
    elif hasattr(model, "client_id"):
        column = model.client_id
    else:
        link, parent = BELONGS_TO[model]
        return link.in_(select(parent.__mapper__.primary_key[0]).where(gate(parent, asking)))
    if asking.client_id is not None:
        return column == asking.client_id  # type: ignore[no-any-return]
    return column.in_(sorted(asking.granted)) if asking.granted else false()


def visible(query: S, *models: type[Model]) -> S:
    """Return `query` limited to rows of `models` that the asking person may know of."""
    for model in models:
        query = query.where(gate(model, actor()))
    return query


def storable(ident: Any) -> bool:
    """Return whether a number of an address, or a text of a form, can be the number of a row: no database holds more,
    SQLite's driver raises for more, and PostgreSQL for a text that is none."""
    if isinstance(ident, str):
        return ident.isascii() and ident.isdecimal() and len(ident) < 19
    return not isinstance(ident, int) or abs(ident) < 2**63


def scoped(session: Session, model: type[M], ident: Any) -> M:
    """Return the row of that id, or raise NotFound: also for a row of a foreign client, which is not there."""
    key = model.__mapper__.primary_key[0]
    if isinstance(ident, str) and issubclass(key.type.python_type, int):
        ident = int(ident) if storable(ident) else None
    fits = not isinstance(ident, int) or storable(ident)
    found = session.scalar(visible(select(model).where(key == ident), model)) if fits else None
    if found is None:
        raise NotFound("There is no such thing, or it is not yours to see.", advice="Go back to the list.")
    return found


def can(right: str, client_id: int | None = None) -> bool:
    """Return whether the asking person may; for templates, to show a button only where it works."""
    asking = current_actor()
    return asking is not None and may(asking, right, client_id)


def check_marks(app: Flask) -> None:
    """Raise RuntimeError if a view has no mark: a page that forgot its right must not start."""
    for rule in app.url_map.iter_rules():
        view = app.view_functions[rule.endpoint]
        if rule.endpoint not in LIBRARY_ENDPOINTS and not isinstance(getattr(view, "access", None), Mark):
            raise RuntimeError(f"{rule.endpoint} ({rule.rule}) has no mark: add @requires, @portal, ... to the view.")
        if getattr(view, "access", None) == Mark("token"):
            app.extensions["csrf"].exempt(view)
