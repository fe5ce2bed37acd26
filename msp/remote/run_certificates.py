"""Certificates for the log-ins of one run, made when a host is about to be entered and used for all of its hosts."""

import asyncio
from datetime import timedelta

from msp import db
from msp.remote import ca
from msp.remote.target import Credential
from msp.vault import Vault

MARGIN = timedelta(minutes=1)  # in which one certificate serves further log-ins, when the longest step is longer


class RunCertificates:
    """A source of credentials; see CredentialSource. Each certificate outlasts the longest step that may follow."""

    def __init__(
        self,
        vault: Vault,
        client_id: int,
        actor: str,
        run_id: int | None = None,
        *,
        longest_step: timedelta = timedelta(0),
        force_command: str = "",
        terminal: bool = False,
        console_id: int | None = None,
    ) -> None:
        """longest_step: of the run. force_command: the only command of a run that has but one. console_id: of the
        console, where it is for none of a run."""
        self._vault, self._actor = vault, actor
        self.serve(run_id, client_id, longest_step)
        self._force_command, self._terminal, self._console_id = force_command, terminal, console_id
        self._known: dict[tuple[str, bool], Credential] = {}
        self._one_at_a_time = asyncio.Lock()

    def serve(self, run_id: int | None, client_id: int, longest_step: timedelta | None) -> None:
        """Say for which run it is, where that is known only later."""
        self._run_id, self._client_id = run_id, client_id
        self._needed = min(longest_step or timedelta(0), ca.LONGEST - MARGIN)
        self._lifetime = max(ca.LIFETIME, self._needed + MARGIN)

    async def credential(self, user: str, *, forwards: bool) -> Credential:
        """Return a credential for one account. forwards: of a bastion. Raises NotFound without an authority."""
        async with self._one_at_a_time:
            known = self._known.get((user, forwards))
            if known is None or known.seconds_left() < self._needed.total_seconds() + 1:
                known = await asyncio.to_thread(self._issue, user, forwards)
                self._known[user, forwards] = known
            return known

    def _issue(self, user: str, forwards: bool) -> Credential:
        purpose = ca.Purpose(
            principals=(user,),
            actor=self._actor,
            run_id=self._run_id,
            console_id=self._console_id,
            client_id=self._client_id,
            lifetime=self._lifetime,
            force_command="" if forwards else self._force_command,
            forwards=forwards,
            terminal=self._terminal and not forwards,
        )
        with db.begin() as session:
            issued = ca.issue(session, self._vault, ca.authority_of(session, self._client_id), purpose)
        return Credential(
            user=user,
            private_key=issued.private_key,
            certificate=issued.certificate,
            valid_until=issued.valid_until,
        )
