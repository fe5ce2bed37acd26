"""Every error this product raises on purpose, sorted by what the caller can do about it."""


class MspError(Exception):
    """Something we can explain: `what` and `advice` for people, `code` and `retry` for programs.

    `status` is the HTTP status of the web and `exit_status` that of the command line.
    """

    code, status, exit_status, retry = "internal", 500, 1, False  # retry: may succeed later, unchanged

    def __init__(self, what: str, *, advice: str = "") -> None:
        super().__init__(what)
        self.what, self.advice = what, advice


class Misconfigured(MspError):
    """A setting, contract, playbook or input cannot mean what it says; a person must edit it."""

    code, status, exit_status = "misconfigured", 422, 2


class Refused(MspError):
    """Understood and not allowed: by contract, by role, or because a host key changed."""

    code, status, exit_status = "refused", 403, 4


class Conflict(MspError):
    """Somebody else was first, or the thing has moved on; look again and decide anew."""

    code, status = "conflict", 409


class NotFound(MspError):
    """No such thing, or none that this actor may know of."""

    code, status = "not_found", 404


class Unreachable(MspError):
    """The other side did not answer or hung up; what it did meanwhile is unknown."""

    code, status, retry = "unreachable", 502, True


class StepFailed(MspError):
    """A step of a playbook or a restore test answered, and the answer was no."""

    code, status = "step_failed", 500
