"""Rights: a client's person reaches one client; a mixed-up role gives nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msp.people.access import CLIENT_ROLES, RIGHTS, Actor, may

ALL_RIGHTS = sorted(set().union(*RIGHTS.values()) - {"*"})


@given(
    st.sets(st.sampled_from(sorted(RIGHTS))),
    st.one_of(st.none(), st.integers(1, 3)),
    st.one_of(st.none(), st.frozensets(st.integers(1, 3))),
    st.sampled_from(ALL_RIGHTS),
    st.integers(1, 3),
)
def test_nobody_reaches_a_client_out_of_sight(
    roles: set[str], own: int | None, granted: frozenset[int] | None, right: str, client: int
) -> None:
    actor = Actor("x", frozenset(roles), own, granted)
    if may(actor, right, client):
        assert own in (None, client)
        if own is None:
            assert granted is None or client in granted
            assert not right.startswith("portal.")
            assert roles - CLIENT_ROLES, "a client role gave a right to staff"
        else:
            assert right.startswith("portal."), "a client's person got a right of staff"


@pytest.mark.parametrize("right", ["portal.approve", "ticket.see", "staff.see"])
def test_a_client_user_neither_approves_nor_sees_staff_pages(right: str) -> None:
    assert not may(Actor("c", frozenset({"client user"}), 1), right, 1)


def test_an_approver_approves_for_the_own_client_only() -> None:
    approver = Actor("c", frozenset({"client approver"}), 1)
    assert may(approver, "portal.approve", 1)
    assert not may(approver, "portal.approve", 2)


def test_an_admin_does_everything_but_act_as_a_client() -> None:
    admin = Actor("a", frozenset({"admin"}))
    assert may(admin, "run.request", 2)
    assert not may(admin, "portal.approve", 2)
