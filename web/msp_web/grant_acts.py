"""The answers to a wish to use a credential: the same on the credential desk and in the client's portal."""

from flask import flash, request
from flask_babel import gettext

from msp.flows import credential_grants
from msp.people.credential_grants import CredentialGrant
from msp_web.access import actor, scoped
from msp_web.unit import unit_of_work


def give(grant_id: int) -> None:
    """Let the credential be used from now on."""
    with unit_of_work() as session:
        scoped(session, CredentialGrant, grant_id)
        credential_grants.give(session, grant_id, actor=actor())
    flash(gettext("Given."), "success")


def decline(grant_id: int) -> None:
    """Say no, with the form's reason."""
    with unit_of_work() as session:
        scoped(session, CredentialGrant, grant_id)
        credential_grants.decline(session, grant_id, actor=actor(), reason=request.form.get("reason", ""))
    flash(gettext("Declined."), "success")


def withdraw(grant_id: int) -> None:
    """Take a grant back, with the form's reason; consoles under it end, runs stop before their next step."""
    with unit_of_work() as session:
        scoped(session, CredentialGrant, grant_id)
        credential_grants.withdraw(session, grant_id, actor=actor(), reason=request.form.get("reason", ""))
    flash(gettext("Withdrawn."), "success")
