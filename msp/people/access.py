"""Who may do what: one pure function over roles, grants and the client of the thing. No database."""

from dataclasses import dataclass

#: role -> rights. A right is `room.verb`; rights of client roles reach their own client only.
RIGHTS: dict[str, frozenset[str]] = {
    "admin": frozenset({"*"}),
    "technician": frozenset(
        {"staff.see", "ticket.see", "ticket.work", "run.see", "run.request", "asset.see", "contract.see"}
        | {"backup.see", "backup.request", "backup.edit", "dispatch.see", "visit.work", "evidence.see"}
        | {"console.open", "console.see"}
        | {"credential.see", "credential.ask", "credential.rotate", "host_key.propose"}
    ),
    "dispatcher": frozenset(
        {"staff.see", "ticket.see", "ticket.work", "run.see", "asset.see", "contract.see", "backup.see"}
        | {"dispatch.see", "dispatch.plan", "evidence.see", "console.see"}
    ),
    "account manager": frozenset(
        {"staff.see", "ticket.see", "run.see", "asset.see", "contract.see", "contract.edit", "billing.confirm"}
        | {"backup.see", "backup.edit", "dispatch.see", "evidence.see", "console.see", "console.end"}
        | {"credential.see", "credential.withdraw", "host_key.approve"}
    ),
    "credential keeper": frozenset(
        {"staff.see", "ticket.see", "asset.see", "contract.see", "evidence.see", "run.see"}
        | {"credential.see", "credential.ask", "credential.edit", "credential.reveal", "credential.rotate"}
        | {"credential.withdraw", "host_key.propose", "host_key.approve"}
    ),
    "client user": frozenset({"portal.see", "portal.open_ticket"}),
    "client approver": frozenset({"portal.see", "portal.open_ticket", "portal.approve"}),
}

CLIENT_ROLES = frozenset({"client user", "client approver"})


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, as rules see it. `client_id`: a client's own person. `granted`: None means every client."""

    name: str
    roles: frozenset[str]
    client_id: int | None = None
    granted: frozenset[int] | None = None
    user_id: int | None = None
    language: str = "en"
    time_zone: str = "UTC"

    @property
    def is_staff(self) -> bool:
        return self.client_id is None

    def sees(self, client_id: int | None) -> bool:
        """Return whether this actor may know that the client (None: the provider itself) exists."""
        if self.client_id is not None:
            return client_id == self.client_id
        return self.granted is None or client_id in self.granted


def may(actor: Actor, right: str, client_id: int | None = None) -> bool:
    """Return whether `actor` may use `right` on a thing of `client_id` (None: no particular client)."""
    held: set[str] = set()
    for role in actor.roles:
        if (role in CLIENT_ROLES) == (actor.client_id is not None):  # a mixed-up role gives nothing
            held |= RIGHTS.get(role, frozenset())
    if right not in held and "*" not in held:
        return False
    if right.startswith("portal.") and actor.client_id is None:
        return False
    return client_id is None or actor.sees(client_id)
