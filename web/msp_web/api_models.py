"""What the API speaks, as pydantic models: answers, bodies and queries. The OpenAPI document is written from them."""

from datetime import datetime
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

LARGEST = 2**63 - 1  # of an id
Id = Annotated[int, Field(ge=1, le=LARGEST)]
Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]  # a database takes no NUL
Item = TypeVar("Item", bound=BaseModel)


class Answer(BaseModel):
    """Something the API says. Instants are ISO 8601 in UTC, durations whole seconds."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)


class Asked(BaseModel):
    """Something the API is told; an unknown name is an error, because it would be ignored."""

    model_config = ConfigDict(extra="forbid")


class Problem(Answer):
    """An error (RFC 9457): what happened, what to do, and whether the same call may succeed later."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    retry: bool
    instance: str


class Page(Answer, Generic[Item]):
    """A part of a list. `next`: give it as `after` to go on; null at the end."""

    items: list[Item]
    next: str | None


class Me(Answer):
    """Who asks. `client_id` null: staff. `csrf_token` goes into the header X-CSRFToken of every POST."""

    log_in: str
    roles: list[str]
    rights: list[str]
    client_id: int | None
    client: str | None
    language: str
    time_zone: str
    csrf_token: str


class TicketRow(Answer):
    """A ticket in a list. `seconds_left` until the nearest promise: negative when late, null while no clock runs."""

    id: int
    client_id: int
    client: str
    subject: str
    kind: str
    state: str
    priority: str
    line: str
    site: str | None
    asset: str | None
    opened_at: datetime
    next_due_at: datetime | None
    resolution_due_at: datetime | None
    seconds_left: int | None
    paused: bool
    breached: bool
    is_open: bool


class Clock(Answer):
    """One promise of the contract to one ticket, in covered time."""

    name: str
    clause: str
    due_at: datetime | None
    met_at: datetime | None
    breached: bool
    paused: bool
    target_s: int | None
    used_s: int
    remaining_s: int | None


class Entry(Answer):
    """One entry of a ticket's log. A client's person is given the public ones."""

    at: datetime
    kind: str
    who: str
    public: bool
    text: str


class TicketWhole(TicketRow):
    """A ticket with its clocks, its log and the numbers of its runs."""

    clocks: list[Clock]
    log: list[Entry]
    runs: list[int]


class NewTicket(Asked):
    """A ticket to open. `client_id` is needed of staff; a client's person has one."""

    subject: Text = Field(min_length=1, max_length=300)
    text: Text = Field(default="", max_length=20_000)
    priority: Text = Field(default="P3", max_length=20)
    kind: Literal["incident", "request", "problem", "change"] = "incident"
    asset_id: Id | None = None
    client_id: Id | None = None


class Said(Answer):
    """What the contract said of a run: allow, ask or refuse, by which clause."""

    effect: str | None
    clause_id: str | None
    text: str
    text_ru: str


class ApprovalState(Answer):
    """The question to the person whom the contract names. `decision` null: not decided."""

    rule: str
    requested_at: datetime
    expires_at: datetime | None
    decided_at: datetime | None
    decision: str | None


class RunRow(Answer):
    """A run of a playbook."""

    id: int
    client_id: int | None
    ticket_id: int | None
    playbook: str
    playbook_version: str
    digest: str
    action_class: str
    state: str
    dry_run: bool
    requested_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class HostOutcome(Answer):
    """What became of one host. `outcome` null while it waits or works."""

    name: str
    asset_id: int | None
    state: str
    outcome: str | None
    status: int | None
    detail: str
    started_at: datetime | None
    finished_at: datetime | None


class RunWhole(RunRow):
    """A run with its hosts, its parameters without secrets, and what the contract said."""

    parameters: dict[str, str]
    decision: Said
    approval: ApprovalState | None
    hosts: list[HostOutcome]


class Tested(Answer):
    """One restore test. From rung 4 a pass is a proof."""

    id: int
    finished_at: datetime | None
    verdict: str | None
    highest_rung: int
    reasons: list[str]
    rto_s: int | None
    rpo_s: int | None


class Backup(Answer):
    """One backup plan and whether it is proven: proven, overdue or unproven."""

    id: int
    client_id: int
    name: str
    engine: str
    asset_id: int | None
    state: str
    words: str
    proven_at: datetime | None
    expires_at: datetime | None
    proof_every_s: int
    last_test: Tested | None


class Written(Asked):
    """What a backup job says when it has written. `backup`: its own name for it, a snapshot or a job's number."""

    backup: Text = Field(default="", max_length=500, description="The same name again is the same backup.")


class Triggered(Answer):
    """What came of it. `job` null: the plan climbs no rung after a backup, or is paused; `new` false: told before."""

    plan_id: int
    job: str | None
    rungs: list[int]
    new: bool


class ListQuery(Asked):
    """Where in a list to begin, and how much of it to give."""

    after: Text = Field(default="", max_length=100, description="`next` of the answer before.")
    limit: int = Field(default=50, ge=1, le=200)


class TicketQuery(ListQuery):
    """Which tickets. They come by time left."""

    open: bool = Field(default=True, description="false: those that are over.")
    words: Text = Field(default="", max_length=200, description="Words of the subject, or a number.")


class RunQuery(ListQuery):
    """Which runs. The newest come first."""

    state: Text = Field(default="", max_length=30)
    ticket_id: Id | None = None
